//! Checks of the files, folders and addresses that a configuration names, without opening or changing them.
//!
//! A configuration that is sound by itself can still name what is not there, or not the gateway's to use. What is
//! found here is what would keep it from starting, told while there is time.

use std::{
    fs::{self, File, FileType, Metadata},
    io,
    net::{IpAddr, SocketAddr},
    os::unix::{
        ffi::OsStrExt,
        fs::{FileExt, FileTypeExt, MetadataExt},
    },
    path::{Path, PathBuf},
};

use rustix::{
    fs::Access,
    net::{AddressFamily, SocketFlags, SocketType, bind, socket_with, sockopt::set_socket_reuseaddr},
    process::geteuid,
};
use rustls::RootCertStore;

use super::{AccessSink, Listen, Log, Settings, fault::Faults};
use crate::{
    files,
    operation::UNLOCK,
    policy::{ListedPath, OtherPaths},
};

/// How much of what a configuration names is inspected. Certificates, keys and secrets are read in any case.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Inspection {
    /// Nothing more.
    Alone,
    /// Everything that would keep the gateway from starting.
    ToStart,
    /// Also the addresses, which this machine may not have yet.
    ToCheck,
}

/// Inspects everything that would be opened.
pub(super) fn look(listen: &Listen, log: &Log, inspection: Inspection, faults: &mut Faults<'_>) {
    if inspection == Inspection::Alone {
        return;
    }
    if let AccessSink::File(path) = &log.access
        && let Err(Obstacle(reason, mend)) = access_log(path)
    {
        faults.add_at("log.access", reason, mend);
    }
    if let Some(path) = &log.audit {
        if let Err(Obstacle(reason, mend)) = trail(path) {
            faults.add_at("log.audit", reason, mend);
        }
        if let AccessSink::File(access) = &log.access
            && access != path
            && is_same_file(access, path)
        {
            let mend = "give the audit trail a file of its own";
            faults.add_at("log.audit", "is the access log's file too, by another name", mend);
        }
    }
    for (key, path) in listen.sockets() {
        if let Err(Obstacle(reason, mend)) = socket(path) {
            faults.add_at(&format!("listen.{key}"), reason, mend);
        }
    }
    if let Err(Obstacle(reason, mend)) = system_roots() {
        faults.add_at("SSL_CERT_FILE", reason, mend);
    }
    for (key, address) in listen.addresses() {
        if let Err(Obstacle(reason, mend)) = may_listen(address, inspection) {
            faults.add_at(&format!("listen.{key}"), reason, mend);
        }
    }
}

/// What an operator should know although the gateway would start.
pub(super) fn warnings(settings: &Settings) -> Vec<String> {
    let mut warnings = Vec::new();
    if let AccessSink::File(path) = &settings.log.access
        && fs::metadata(path).is_ok_and(|found| found.file_type().is_fifo())
        && !is_own_output(path)
    {
        warnings.push(
            "log.access: is a FIFO; while nobody reads it, lines are lost, and counted as dropped".into(),
        );
    }
    warnings.extend(other_paths(&settings.policy.other_paths));
    for (key, path) in settings.listen.sockets() {
        if fs::metadata(folder_of(path)).is_ok_and(|folder| folder.mode() & 0o055 != 0) {
            // Nobody else can get the sockets or slip in others, but who can enter the folder can stand in the way.
            warnings.push(format!("listen.{key}: others can enter its folder; make that 0700"));
        }
    }
    if settings.wrong_keys.is_some() && !settings.policy.access.judges_keys() {
        let warning =
            "clients.wrong_keys: there are none to count; give users under [[users]] their key_sha256";
        warnings.push(warning.into());
    }
    warnings
}

/// What other paths may let through to the unlock call.
fn other_paths(other_paths: &OtherPaths) -> Vec<String> {
    let unseen = "the route of an unlock call in a body, a cookie or another encoding, or a number for it, is not seen";
    match other_paths {
        OtherPaths::Reject => Vec::new(),
        OtherPaths::Forward => {
            vec![format!("policy.other_paths: is \"forward\": {unseen}; list the paths that are needed instead")]
        }
        OtherPaths::Listed(listed) => listed
            .iter()
            .filter(|listed| listed.covers(UNLOCK.path))
            .map(|ListedPath { prefix, .. }| {
                format!("policy.other_paths: `{prefix}` is above the unlock path: {unseen}; list what is needed below it")
            })
            .collect(),
    }
}

/// What is in the way, and the mend.
struct Obstacle(String, &'static str);

impl Obstacle {
    fn new(reason: impl Into<String>, mend: &'static str) -> Self {
        Self(reason.into(), mend)
    }
}

const NAME_A_FILE: &str = "name a file that the gateway's user can write, in a folder that is there";

/// Whether lines could be appended to the file, or it could be begun.
fn access_log(path: &Path) -> Result<(), Obstacle> {
    let Some(found) = find(path)? else {
        // The gateway may well have one where this process has none.
        return if is_own_output(path) {
            Ok(())
        } else {
            may_begin(path, Access::WRITE_OK | Access::EXEC_OK)
        };
    };
    if let Some(what) = unwritable(found.file_type()) {
        return Err(Obstacle::new(format!("is {what}"), "name a file, or write \"stdout\" or \"stderr\""));
    }
    may(path, Access::WRITE_OK, "cannot be written")
}

/// Whether a trail could be continued there, or begun.
fn trail(path: &Path) -> Result<(), Obstacle> {
    // Beginning one, the files beside it are looked through for the record it follows.
    let to_begin = Access::READ_OK | Access::WRITE_OK | Access::EXEC_OK;
    if fs::symlink_metadata(path).is_ok_and(|found| found.is_symlink()) {
        // Never followed: it may lead to what somebody else wants written, or cut.
        return Err(Obstacle::new("is a symbolic link", "name the file that it leads to"));
    }
    let Some(found) = find(path)? else { return may_begin(path, to_begin) };
    if let Some(what) = files::what_else(found.file_type()) {
        return Err(Obstacle::new(
            format!("is {what}"),
            "name a regular file, or one that is yet to be made",
        ));
    }
    may(path, Access::READ_OK | Access::WRITE_OK, "cannot be read and written")?;
    let needed = match found.len() {
        0 => Access::READ_OK | Access::EXEC_OK,
        // A torn record at its end is put aside, into a file beside it.
        length if !ends_a_line(path, length) => Access::WRITE_OK | Access::EXEC_OK,
        _ => return Ok(()),
    };
    may(folder_of(path), needed, "is in a folder that cannot be used")
}

fn ends_a_line(path: &Path, length: u64) -> bool {
    let mut last = [0];
    let read = File::open(path).and_then(|file| file.read_exact_at(&mut last, length - 1));
    read.is_err() || last == *b"\n"
}

/// Whether one could be listened on there, in a folder where nobody else can take its place.
fn socket(path: &Path) -> Result<(), Obstacle> {
    let mend = "name one in a folder of the gateway's user's own, with mode 0700";
    let folder = folder_of(path);
    let found = fs::metadata(folder).map_err(|error| {
        let is_absent = error.kind() == io::ErrorKind::NotFound;
        let reached = || format!("is in a folder that cannot be reached: {error}");
        let reason = if is_absent { "is in a folder that is not there".into() } else { reached() };
        Obstacle::new(reason, mend)
    })?;
    let user = geteuid().as_raw();
    if !found.is_dir() {
        return Err(Obstacle::new("is in something that is no folder", mend));
    }
    if found.mode() & 0o022 != 0 {
        return Err(Obstacle::new("is in a folder that others can write to", mend));
    }
    // Root looks on behalf of the user that the gateway will run as.
    if user != 0 && ![user, 0].contains(&found.uid()) {
        return Err(Obstacle::new("is in another user's folder", mend));
    }
    may(
        folder,
        Access::WRITE_OK | Access::EXEC_OK,
        "is in a folder that the gateway's user cannot write to",
    )?;
    match fs::symlink_metadata(path) {
        Ok(found) if !found.file_type().is_socket() => {
            Err(Obstacle::new("is something else already", "name a path at which there is nothing"))
        }
        Ok(_) | Err(_) => Ok(()),
    }
}

/// Whether the system's roots can be loaded, as they are at the start whether anything is verified by them or not.
fn system_roots() -> Result<(), Obstacle> {
    let found = rustls_native_certs::load_native_certs();
    if let (true, Some(error)) = (found.certs.is_empty(), found.errors.first()) {
        let mend = "mend what SSL_CERT_FILE and SSL_CERT_DIR name in the environment, or set neither";
        return Err(Obstacle::new(format!("the system's root certificates cannot be read: {error}"), mend));
    }
    let mut roots = RootCertStore::empty();
    if found.certs.into_iter().all(|root| roots.add(root).is_ok()) {
        return Ok(());
    }
    let mend = "take it out of what SSL_CERT_FILE or SSL_CERT_DIR names, or of the system's own";
    Err(Obstacle::new("one of the system's root certificates cannot be read", mend))
}

/// Whether the address could be listened on, as far as it depends on the address and on who asks. What else has its
/// port at present does not count.
fn may_listen(address: SocketAddr, inspection: Inspection) -> Result<(), Obstacle> {
    // Bound and never listened on, a socket takes nothing from anybody. Any port will do to ask for the address.
    let is_privileged = address.port() != 0 && address.port() < first_unprivileged_port();
    let asked = if is_privileged { address } else { SocketAddr::new(address.ip(), 0) };
    let family = if address.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let bound = socket_with(family, SocketType::STREAM, SocketFlags::CLOEXEC, None).and_then(|socket| {
        set_socket_reuseaddr(&socket, true)?;
        bind(&socket, &asked)
    });
    let is_to_be_here = inspection == Inspection::ToCheck;
    match bound.map_err(|error| io::Error::from(error).kind()) {
        Err(io::ErrorKind::PermissionDenied) if is_privileged => Err(Obstacle::new(
            format!("names {address}, a port that the gateway's user may not listen on"),
            "give the service CAP_NET_BIND_SERVICE, or name a port above 1023",
        )),
        Err(io::ErrorKind::AddrNotAvailable) if is_to_be_here => Err(Obstacle::new(
            format!("names {address}, which is no address of this machine"),
            "name one of its own, or 0.0.0.0 or [::] for all of them",
        )),
        Err(_) if is_to_be_here && address.is_ipv6() && !has_ipv6() => Err(Obstacle::new(
            format!("names {address}, and this machine has no IPv6"),
            "name an IPv4 address",
        )),
        // Anything else may be otherwise by the time it counts.
        Ok(()) | Err(_) => Ok(()),
    }
}

/// Whether an address is this machine's, as far as machines are looked at.
pub(super) fn is_here(address: IpAddr, inspection: Inspection) -> bool {
    let family = if address.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    inspection != Inspection::Alone
        && socket_with(family, SocketType::STREAM, SocketFlags::CLOEXEC, None)
            .and_then(|socket| bind(&socket, &SocketAddr::new(address, 0)))
            .is_ok()
}

fn has_ipv6() -> bool {
    socket_with(AddressFamily::INET6, SocketType::STREAM, SocketFlags::CLOEXEC, None).is_ok()
}

fn first_unprivileged_port() -> u16 {
    let written = fs::read_to_string("/proc/sys/net/ipv4/ip_unprivileged_port_start");
    written.ok().and_then(|port| port.trim().parse().ok()).unwrap_or(1024)
}

/// What is at the path; none where nothing is.
fn find(path: &Path) -> Result<Option<Metadata>, Obstacle> {
    match fs::metadata(path) {
        Ok(found) => Ok(Some(found)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(Obstacle::new(format!("cannot be reached: {error}"), NAME_A_FILE)),
    }
}

/// Whether a file could be begun at the path, where nothing is.
fn may_begin(path: &Path, needed: Access) -> Result<(), Obstacle> {
    let path = aim(path);
    if path.as_os_str().as_bytes().ends_with(b"/") {
        return Err(Obstacle::new("names a folder", NAME_A_FILE));
    }
    let folder = folder_of(&path);
    match fs::metadata(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Err(Obstacle::new("is in a folder that is not there", NAME_A_FILE));
        }
        Err(error) => {
            return Err(Obstacle::new(
                format!("is in a folder that cannot be reached: {error}"),
                NAME_A_FILE,
            ));
        }
        Ok(found) if !found.is_dir() => {
            return Err(Obstacle::new("is in something that is no folder", NAME_A_FILE));
        }
        Ok(_) => {}
    }
    may(folder, needed, "cannot be made in its folder")
}

/// Where a file is made for a path that may be a link to nothing.
fn aim(path: &Path) -> PathBuf {
    let mut aim = path.to_owned();
    // As many links as the system follows.
    for _ in 0..40 {
        match fs::read_link(&aim) {
            Ok(next) => aim = folder_of(&aim).join(next),
            Err(_) => break,
        }
    }
    aim
}

fn may(path: &Path, needed: Access, otherwise: &str) -> Result<(), Obstacle> {
    rustix::fs::access(path, needed)
        .map_err(|error| Obstacle::new(format!("{otherwise}: {}", io::Error::from(error)), NAME_A_FILE))
}

fn folder_of(path: &Path) -> &Path {
    path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// What it is that lines cannot be appended to.
fn unwritable(found: FileType) -> Option<&'static str> {
    if found.is_dir() {
        Some("a folder")
    } else if found.is_socket() {
        Some("a socket")
    } else if found.is_block_device() {
        Some("a disk")
    } else {
        None
    }
}

/// Whether the path is one of the process's own open files, which are others when the gateway runs.
fn is_own_output(path: &Path) -> bool {
    ["/dev/stdout", "/dev/stderr"].iter().any(|own| path == Path::new(own))
        || ["/dev/fd", "/proc/self/fd"].iter().any(|own| path.starts_with(own))
}

fn is_same_file(one: &Path, other: &Path) -> bool {
    match (fs::metadata(one), fs::metadata(other)) {
        (Ok(one), Ok(other)) => (one.dev(), one.ino()) == (other.dev(), other.ino()),
        (Err(_), Err(_)) => {
            let (one, other) = (aim(one), aim(other));
            let place = |path: &Path| fs::canonicalize(folder_of(path)).ok();
            one.file_name() == other.file_name()
                && place(&one).is_some_and(|folder| Some(folder) == place(&other))
        }
        _ => false,
    }
}
