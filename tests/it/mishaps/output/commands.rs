//! A command whose reader leaves ends quietly, and its exit code says what it would have said.

use std::io::{Read, Write, pipe};
use std::path::Path;
use std::process::{ExitStatus, Stdio};

use super::run;

const CONFIG: &str = "listen.http = [\"127.0.0.1:0\"]\nupstream.peers = [\"127.0.0.1:80\"]\n";
const FORWARDED: &str = "PATCH /api/customer/unlock HTTP/1.1\r\nHost: h\r\napi-key: k\r\napi-username: u\r\nContent-Type: \
                         application/x-www-form-urlencoded\r\nContent-Length: 15\r\n\r\ncustomer_id=191";

/// A folder with a sound configuration, a faulty one and a whole trail.
fn folder() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| std::fs::write(folder.path().join(name), text).unwrap();
    write("sound.toml", CONFIG);
    write("faulty.toml", "listen.http = []\n");
    write("audit.jsonl", "");
    folder
}

/// Runs a command whose standard output nobody reads; gives what it says on standard error.
fn unread(folder: &Path, arguments: &[&str], input: &str) -> (ExitStatus, String) {
    let (mut told, stderr) = pipe().unwrap();
    let (reader, stdout) = pipe().unwrap();
    drop(reader);
    let (stdin, mut given) = pipe().unwrap();
    given.write_all(input.as_bytes()).unwrap();
    drop(given);
    let status = run(arguments, |command| {
        command.current_dir(folder).stdin(stdin).stdout(stdout).stderr(stderr);
    });
    let mut text = String::new();
    told.read_to_string(&mut text).unwrap();
    (status, text)
}

#[test]
fn a_command_whose_reader_leaves_ends_quietly() {
    let folder = folder();
    for (arguments, input) in [
        ("explain --config sound.toml", FORWARDED),
        ("explain --json --config sound.toml", FORWARDED),
        ("check --config sound.toml", ""),
        ("hash-key", "abc\n"),
        ("demo --port 0 --admin-port 0", ""),
        ("stand-in --listen 127.0.0.1:0", ""),
        ("--help", ""),
        ("--version", ""),
    ] {
        let arguments: Vec<&str> = arguments.split(' ').collect();
        let (status, told) = unread(folder.path(), &arguments, input);
        assert_eq!((status.code(), told.as_str()), (Some(0), ""), "{arguments:?}");
    }
    // It has not been read that the trail is whole.
    let (status, told) = unread(folder.path(), &["audit", "verify", "audit.jsonl"], "");
    assert_eq!((status.code(), told.as_str()), (Some(1), ""));
}

#[test]
fn a_verdict_needs_no_reader() {
    let folder = folder();
    for (arguments, code) in
        [("check --config faulty.toml", 2), ("run --config faulty.toml", 2), ("audit verify none", 1)]
    {
        let (reader, stderr) = pipe().unwrap();
        drop(reader);
        let arguments: Vec<&str> = arguments.split(' ').collect();
        let status = run(&arguments, |command| {
            command.current_dir(folder.path()).stdout(Stdio::null()).stderr(stderr);
        });
        assert_eq!(status.code(), Some(code), "{arguments:?}");
    }
}

/// Runs a command; gives its exit code and what it says on standard error.
fn told(folder: &Path, arguments: &[&str], stdout: impl Into<Stdio>) -> (Option<i32>, String) {
    let (mut told, stderr) = pipe().unwrap();
    let status = run(arguments, |command| {
        command.current_dir(folder).stdin(Stdio::null()).stdout(stdout).stderr(stderr);
    });
    let mut text = String::new();
    told.read_to_string(&mut text).unwrap();
    (status.code(), text)
}

#[test]
fn an_output_that_takes_nothing_is_told() {
    let folder = folder();
    let full = std::fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
    let (code, text) = told(folder.path(), &["check", "--config", "sound.toml"], full);
    assert_eq!(code, Some(1));
    assert!(text.contains("cannot print: No space left on device"), "{text}");
}

#[test]
fn what_a_command_cannot_have_is_named() {
    let folder = folder();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    let port = address.port().to_string();
    let in_use = format!("cannot listen on {address}: Address already in use");
    for (arguments, code, words) in [
        (&["stand-in", "--listen", &address.to_string()][..], 1, &*in_use),
        (&["demo", "--port", &port, "--admin-port", "0"], 1, &in_use),
        (&["demo", "--port", "0", "--admin-port", &port], 1, &in_use),
        (&["check", "--config", "none.toml"], 2, "none.toml: cannot be read: No such file"),
        (&["explain", "--config", "sound.toml"], 1, "there is no request"),
        (&["hash-key"], 1, "give it on standard input"),
    ] {
        let (told_code, text) = told(folder.path(), arguments, Stdio::null());
        assert_eq!(told_code, Some(code), "{arguments:?}: {text}");
        assert!(text.contains(words), "{arguments:?}: {text}");
        assert_eq!(text.matches("none.toml").count(), words.matches("none.toml").count(), "{text}");
    }
}

#[test]
fn a_long_list_of_faults_waits_for_its_reader() {
    let folder = folder();
    let mut text = String::from(CONFIG);
    // Far more than a pipe takes at once.
    for number in 0..2000 {
        text.push_str(&format!("unknown_key_with_a_rather_long_name_{number} = 1\n"));
    }
    std::fs::write(folder.path().join("long.toml"), text).unwrap();
    let (mut told, stderr) = pipe().unwrap();
    let reader = std::thread::spawn(move || {
        let mut text = String::new();
        told.read_to_string(&mut text).map(|_| text)
    });
    let status = run(&["check", "--config", "long.toml"], |command| {
        command.current_dir(folder.path()).stderr(stderr);
    });
    assert_eq!(status.code(), Some(2));
    assert_eq!(reader.join().unwrap().unwrap().lines().count(), 2000);
}
