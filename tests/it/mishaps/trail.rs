//! The trail cannot be written, or a neighbour keeps its file.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::thread;
use std::time::Instant;

use rustix::process::{Pid, Signal as Posix, WaitOptions, geteuid, kill_process, waitpid};
use serde_json::Value;
use tempfile::TempDir;

use crate::harness::{Call, DEADLINE, Gate, Gateway, GatewayBuilder, Reply, Signal, Upstream, binary, tool};

fn recording(upstream: &Upstream, file: &Path) -> GatewayBuilder {
    Gateway::before(upstream.address())
        .set("listen", "threads = 1")
        .set("log", &format!("audit = {:?}\naccess = \"off\"", file.to_str().unwrap()))
}

fn records(file: &Path) -> Vec<Value> {
    let text = fs::read_to_string(file).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// Asserts that files are one whole chain in which every intent has its outcome.
fn assert_whole(files: &[&Path]) {
    let output = binary().args(["audit", "verify"]).args(files).output().unwrap();
    let told = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{told}{}", String::from_utf8_lossy(&output.stderr));
    assert!(told.contains("intents without outcome: 0"), "{told}");
}

/// Waits until the trail has so many records.
fn wait_for_records(file: &Path, count: usize) -> Vec<Value> {
    let start = Instant::now();
    loop {
        let records = records(file);
        if records.len() >= count {
            return records;
        }
        assert!(start.elapsed() < DEADLINE, "{} of {count} records: {records:?}", records.len());
        thread::yield_now();
    }
}

/// Another process that appends to the same trail, and was stopped while it had the file's lock.
struct Neighbour {
    process: Child,
    says: BufReader<ChildStdout>,
}

impl Neighbour {
    const SCRIPT: &str = "import fcntl, os, signal, sys
trail = open(sys.argv[1], 'a')
fcntl.flock(trail, fcntl.LOCK_EX)
os.kill(os.getpid(), signal.SIGSTOP)
fcntl.flock(trail, fcntl.LOCK_UN)
print('unlocked', flush=True)
sys.stdin.read()";

    fn stopped_with_the_lock_of(file: &Path) -> Self {
        let mut process = tool("python3", "install Python 3")
            .args(["-c", Self::SCRIPT])
            .arg(file)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let says = BufReader::new(process.stdout.take().unwrap());
        let neighbour = Self { process, says };
        let (_, status) = waitpid(Some(neighbour.id()), WaitOptions::UNTRACED).unwrap().unwrap();
        assert!(status.stopped(), "{status:?}");
        neighbour
    }

    fn id(&self) -> Pid {
        Pid::from_child(&self.process)
    }

    /// Lets it go on and give the lock back.
    fn go_on(&mut self) {
        kill_process(self.id(), Posix::CONT).unwrap();
        let mut line = String::new();
        self.says.read_line(&mut line).unwrap();
        assert_eq!(line, "unlocked\n");
    }
}

impl Drop for Neighbour {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// A file system with little room, for as long as the value lives; none where the user or the machine may not have
/// one, which is said aloud.
struct Tight(TempDir);

impl Tight {
    fn new(options: &str) -> Option<Self> {
        let folder = tempfile::tempdir().unwrap();
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", options, "none"])
            .arg(folder.path())
            .output()
            .expect("mount runs: install Debian's mount");
        if mounted.status.success() {
            return Some(Self(folder));
        }
        let told = String::from_utf8_lossy(&mounted.stderr);
        let why = if geteuid().is_root() { told.trim() } else { "they take root" };
        // Past the test runner, which keeps what a passing test prints to itself.
        let _ = writeln!(std::io::stderr(), "NOT TESTED: file systems that are full: {why}");
        None
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// Fills what is left of the space.
    fn fill(&self) {
        let mut file = fs::File::create(self.path("filler")).unwrap();
        while file.write_all(&[0; 4096]).is_ok() {}
    }
}

impl Drop for Tight {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(self.0.path()).status();
    }
}

/// Lets a process's files grow no further than so many bytes.
fn limit_files(gateway: &Gateway, limit: &str) {
    let mut prlimit = tool("prlimit", "install util-linux");
    let limited = prlimit.args(["--pid", &gateway.process_id().to_string(), &format!("--fsize={limit}:")]);
    assert!(limited.status().unwrap().success());
}

#[test]
fn a_neighbour_stopped_with_the_lock_holds_up_no_refusal_and_the_trail_recovers_with_it() {
    let (upstream, folder) = (Upstream::start(), tempfile::tempdir().unwrap());
    let file = folder.path().join("audit.jsonl");
    let gateway = recording(&upstream, &file).start();
    let (mut wire, mut other) = (gateway.connect(), gateway.connect());
    assert_eq!(wire.call(&Call::unlock()).status(), 200);

    let mut neighbour = Neighbour::stopped_with_the_lock_of(&file);
    wire.send(Call::unlock().bytes());
    let (answer, refused_meanwhile) = thread::scope(|scope| {
        let waiting = scope.spawn(|| (wire.answer(), Instant::now()));
        let mut refused = Vec::new();
        while !waiting.is_finished() {
            assert_eq!(other.call(&Call::unlock().path("/elsewhere")).code(), "path_unknown");
            refused.push(Instant::now());
        }
        let (answer, at) = waiting.join().unwrap();
        (answer, refused.into_iter().filter(|refused| *refused < at).count())
    });
    assert_eq!((answer.status(), answer.code().as_str()), (503, "audit_unavailable"));
    assert!(refused_meanwhile >= 2, "{refused_meanwhile} refusals while one call waited for the trail");
    for _ in 0..20 {
        assert_eq!(wire.call(&Call::unlock()).code(), "audit_unavailable");
    }
    assert_eq!(gateway.admin("/livez").unwrap().0, 200);
    gateway.wait_for_metric("n4n_gateway_audit_errors_total", 21.0);
    assert_eq!(upstream.count(), 1, "nothing was forwarded unrecorded");

    neighbour.go_on();
    assert_eq!(wire.call(&Call::unlock()).status(), 200);
    assert_eq!(records(&file).len(), 4, "what was refused left no trace");
    assert_whole(&[&file]);
}

#[test]
fn an_outcome_that_comes_while_a_neighbour_has_the_lock_is_recorded_when_it_goes_on() {
    let gate = Gate::default();
    let (held, folder) = (gate.clone(), tempfile::tempdir().unwrap());
    let upstream = Upstream::scripted(move |_| {
        held.pass();
        Reply::json("200 OK", "true")
    });
    let file = folder.path().join("audit.jsonl");
    let gateway = recording(&upstream, &file).start();
    let mut wire = gateway.connect();
    wire.send(Call::unlock().bytes());
    upstream.wait_for(1);
    let mut neighbour = Neighbour::stopped_with_the_lock_of(&file);
    gate.open();
    assert_eq!(wire.answer().status(), 200, "what n4n has done is told all the same");
    assert_eq!(records(&file).len(), 1);
    neighbour.go_on();
    let outcome = wait_for_records(&file, 2).remove(1);
    assert_eq!((&outcome["event"], &outcome["result"]), (&"outcome".into(), &"unlocked".into()));
    assert_whole(&[&file]);
}

#[test]
fn a_trail_that_is_stuck_does_not_keep_the_process_from_ending() {
    for signal in [Signal::Terminate, Signal::Interrupt] {
        let gate = Gate::default();
        let (held, folder) = (gate.clone(), tempfile::tempdir().unwrap());
        let upstream = Upstream::scripted(move |_| {
            held.pass();
            Reply::json("200 OK", "true")
        });
        let file = folder.path().join("audit.jsonl");
        let mut gateway = recording(&upstream, &file).start();
        let mut wire = gateway.connect();
        wire.send(Call::unlock().bytes());
        upstream.wait_for(1);
        let neighbour = Neighbour::stopped_with_the_lock_of(&file);
        gate.open();
        assert_eq!(wire.answer().status(), 200);
        gateway.send(signal);
        assert!(gateway.wait_exit().success(), "{signal:?}");
        let output = gateway.output();
        assert!(output.contains("calls whose outcome cannot be written: 1"), "{signal:?}: {output}");
        drop(neighbour);
    }
}

#[test]
fn calls_refused_while_the_disk_is_full_spend_nothing() {
    let Some(tight) = Tight::new("size=64k") else { return };
    let (upstream, file) = (Upstream::start(), tight.path("audit.jsonl"));
    let quota = "requests = 1\nper = \"1h\"\nburst = 30";
    let gateway = recording(&upstream, &file).set("quota", quota).start();
    let mut wire = gateway.connect();
    let mut call = || {
        let answer = wire.call(&Call::unlock());
        if answer.status() == 200 { "ok".to_owned() } else { answer.code() }
    };
    tight.fill();
    // There is room left in the file's last page.
    let fitted = std::iter::from_fn(|| Some(call())).take_while(|code| code == "ok").count();
    assert!(fitted < 25, "{fitted} calls on a full disk");
    for _ in 0..40 {
        assert_eq!(call(), "audit_unavailable");
    }
    fs::remove_file(tight.path("filler")).unwrap();
    let left = std::iter::from_fn(|| Some(call())).take_while(|code| code == "ok").count();
    assert_eq!(fitted + left, 30 - 1, "the call that discovered the fault alone has spent");
    assert_eq!(call(), "quota_exceeded");
    assert_eq!(upstream.count(), fitted + left);
    assert_whole(&[&file]);
}

#[test]
fn a_flood_over_the_quota_leaves_nothing_in_the_trail_but_for_the_call_that_found_it_mended() {
    let (upstream, folder) = (Upstream::start(), tempfile::tempdir().unwrap());
    let file = folder.path().join("audit.jsonl");
    let quota = "requests = 1\nper = \"1h\"\nburst = 1";
    let gateway = recording(&upstream, &file).set("quota", quota).start();
    let mut wire = gateway.connect();
    let [spent, other] = ["spent", "other"].map(|user| Call::unlock().user(user));
    assert_eq!(wire.call(&spent).status(), 200);
    for _ in 0..10 {
        assert_eq!(wire.call(&spent).code(), "quota_exceeded");
    }
    assert_eq!(records(&file).len(), 2);

    limit_files(&gateway, "1");
    assert_eq!(wire.call(&other).code(), "audit_unavailable");
    // The order of the table, also for who is over the quota.
    assert_eq!(wire.call(&spent).code(), "audit_unavailable");
    limit_files(&gateway, "unlimited");
    for _ in 0..10 {
        assert_eq!(wire.call(&spent).code(), "quota_exceeded");
    }
    let records = records(&file);
    let [intent, outcome] = &records[2..] else { panic!("one call's records: {records:?}") };
    assert_eq!((&intent["event"], &intent["user"]), (&"intent".into(), &"spent".into()));
    assert_eq!(outcome["request_id"], intent["request_id"]);
    assert_eq!((&outcome["result"], &outcome["code"]), (&"not_sent".into(), &"quota_exceeded".into()));
    assert_eq!(upstream.count(), 1);
    assert_whole(&[&file]);
}

#[test]
fn a_trail_that_is_no_regular_file_is_refused_and_says_the_mend() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name| folder.path().join(name);
    assert!(tool("mkfifo", "install coreutils").arg(path("fifo")).status().unwrap().success());
    let _listener = UnixListener::bind(path("socket")).unwrap();
    fs::create_dir(path("folder")).unwrap();
    for (what, trail) in [
        ("a FIFO", path("fifo")),
        ("a socket", path("socket")),
        ("a folder", path("folder")),
        ("a device", PathBuf::from("/dev/full")),
    ] {
        let config = path("gateway.toml");
        let text = format!(
            "[listen]\nhttp = [\"127.0.0.1:0\"]\nadmin = \"127.0.0.1:0\"\n[upstream]\npeers = [\"127.0.0.1:1\"]\n\
             [log]\naudit = {trail:?}\n"
        );
        fs::write(&config, text).unwrap();
        let program = binary().get_program().to_owned();
        let seconds = DEADLINE.as_secs().to_string();
        let mut timeout = tool("timeout", "install coreutils");
        let output =
            timeout.arg(seconds).arg(program).args(["run", "--config"]).arg(config).output().unwrap();
        let told = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{what}: {told}");
        assert!(told.contains(&format!("log.audit: is {what}; name a regular file")), "{what}: {told}");
    }
}

#[test]
fn a_reload_onto_a_fifo_fails_and_the_running_trail_goes_on() {
    let (upstream, folder) = (Upstream::start(), tempfile::tempdir().unwrap());
    let (file, fifo) = (folder.path().join("audit.jsonl"), folder.path().join("fifo"));
    assert!(tool("mkfifo", "install coreutils").arg(&fifo).status().unwrap().success());
    let gateway = recording(&upstream, &file).start();
    gateway.reload(|text| text.replace("audit.jsonl", "fifo"));
    assert!((gateway.metrics().sum("n4n_gateway_config_last_reload_successful")).abs() < f64::EPSILON);
    gateway.wait_for_line("log.audit: is a FIFO; name a regular file");
    assert_eq!(gateway.call(&Call::unlock()).status(), 200);

    // Also where somebody has put one in the running trail's place.
    fs::rename(&file, folder.path().join("audit.jsonl.1")).unwrap();
    fs::rename(&fifo, &file).unwrap();
    gateway.reload(|text| text.replace("fifo", "audit.jsonl"));
    assert!((gateway.metrics().sum("n4n_gateway_config_last_reload_successful")).abs() < f64::EPSILON);
    assert_eq!(gateway.call(&Call::unlock()).code(), "audit_unavailable");
    fs::remove_file(&file).unwrap();
    assert_eq!(gateway.call(&Call::unlock()).status(), 200);
    assert_whole(&[&folder.path().join("audit.jsonl.1"), &file]);
}

#[test]
fn a_link_put_in_the_running_trails_place_is_not_followed_and_what_it_leads_to_stays_whole() {
    let (upstream, folder) = (Upstream::start(), tempfile::tempdir().unwrap());
    let at = |name: &str| folder.path().join(name);
    let gateway = recording(&upstream, &at("audit.jsonl")).start();
    assert_eq!(gateway.call(&Call::unlock()).status(), 200);
    fs::write(at("other"), "somebody's\nfile").unwrap();
    fs::rename(at("audit.jsonl"), at("audit.jsonl.1")).unwrap();
    std::os::unix::fs::symlink("other", at("audit.jsonl")).unwrap();

    assert_eq!(gateway.call(&Call::unlock()).code(), "audit_unavailable");
    gateway.wait_for_line("it is a symbolic link: an audit trail must be a file itself; name the one");
    gateway.reload(|text| text + "\n");
    assert!((gateway.metrics().sum("n4n_gateway_config_last_reload_successful")).abs() < f64::EPSILON);
    gateway.wait_for_line("log.audit: is a symbolic link; name the file that it leads to");
    assert_eq!(gateway.call(&Call::unlock()).code(), "audit_unavailable");
    assert_eq!(fs::read_to_string(at("other")).unwrap(), "somebody's\nfile");
    assert_eq!(upstream.count(), 1);

    fs::remove_file(at("audit.jsonl")).unwrap();
    assert_eq!(gateway.call(&Call::unlock()).status(), 200);
    assert_whole(&[&at("audit.jsonl.1"), &at("audit.jsonl")]);
}

#[test]
fn a_rotation_without_a_free_inode_is_told_and_the_trail_goes_on_where_it_is() {
    let Some(tight) = Tight::new("nr_inodes=8") else { return };
    let upstream = Upstream::start();
    let (file, rotated) = (tight.path("audit.jsonl"), tight.path("audit.jsonl.1"));
    let gateway = recording(&upstream, &file).start();
    let mut wire = gateway.connect();
    assert_eq!(wire.call(&Call::unlock()).status(), 200);
    let fillers = (0..).map(|number| tight.path(&format!("filler-{number}")));
    let fillers: Vec<_> = fillers.take_while(|path| fs::File::create(path).is_ok()).collect();
    fs::rename(&file, &rotated).unwrap();
    gateway.reload(|text| text);
    assert!((gateway.metrics().sum("n4n_gateway_config_last_reload_successful")).abs() < f64::EPSILON);
    gateway.wait_for_line("No space left on device");
    for _ in 0..3 {
        assert_eq!(wire.call(&Call::unlock()).status(), 200);
    }
    gateway.wait_for_line("the audit trail goes on in the file that was moved away");
    assert_eq!(records(&rotated).len(), 8);

    fs::remove_file(&fillers[0]).unwrap();
    gateway.reload(|text| text);
    assert!((gateway.metrics().sum("n4n_gateway_config_last_reload_successful") - 1.0).abs() < f64::EPSILON);
    assert_eq!(wire.call(&Call::unlock()).status(), 200);
    assert_eq!(records(&file).len(), 2);
    assert_whole(&[&rotated, &file]);
}
