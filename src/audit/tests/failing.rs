//! A trail that cannot be written, or only late.

use std::{cell::Cell, env, io::ErrorKind, os::unix::fs::symlink, process::Command};

use super::*;

#[test]
fn a_trail_that_cannot_be_written_says_so_each_time_until_it_can() {
    let scratch = Scratch::new();
    let trail = scratch.open();
    record_a_call(&trail);
    let rotated = scratch.rotate("audit.jsonl.1");
    fs::create_dir(&scratch.trail).unwrap();
    for _ in 0..3 {
        assert_eq!(trail.intent(&an_intent()).unwrap_err().kind(), ErrorKind::IsADirectory);
    }
    assert_eq!(trail.reopen().unwrap_err().kind(), ErrorKind::IsADirectory);
    assert_eq!(whole(&[&rotated]), 2, "what failed left no trace");
    fs::remove_dir(&scratch.trail).unwrap();
    trail.reopen().unwrap();
    record_a_call(&trail);
    assert_eq!(whole(&[&rotated, &scratch.trail]), 4);
}

#[test]
fn a_trail_whose_folder_was_moved_away_is_not_written_until_it_is_back() {
    let scratch = Scratch::new();
    let (folder, moved) = (scratch.path("folder"), scratch.path("moved"));
    fs::create_dir(&folder).unwrap();
    let trail = Opened::at(&folder.join("audit.jsonl")).unwrap();
    record_a_call(&trail);
    fs::rename(&folder, &moved).unwrap();
    for _ in 0..2 {
        assert_eq!(trail.intent(&an_intent()).unwrap_err().kind(), ErrorKind::NotFound);
    }
    assert_eq!(trail.reopen().unwrap_err().kind(), ErrorKind::NotFound);
    fs::rename(&moved, &folder).unwrap();
    record_a_call(&trail);
    assert_eq!(whole(&[&folder.join("audit.jsonl")]), 4);
}

#[test]
fn what_cannot_hold_a_trail_is_refused_at_the_start() {
    let scratch = Scratch::new();
    fs::write(scratch.path("other"), "half a line").unwrap();
    let link = |to: &str, name: &str| {
        symlink(to, scratch.path(name)).unwrap();
        scratch.path(name)
    };
    for (case, path, want) in [
        ("a link", link("other", "link"), ErrorKind::InvalidInput),
        ("a link to nothing", link("none", "dangling"), ErrorKind::InvalidInput),
        ("a link to a device", link("/dev/null", "null"), ErrorKind::InvalidInput),
        ("a link to a folder", link(".", "dot"), ErrorKind::InvalidInput),
        ("a device", PathBuf::from("/dev/full"), ErrorKind::InvalidInput),
        ("a folder", scratch.folder.path().to_owned(), ErrorKind::IsADirectory),
        ("a folder that is not there", scratch.path("none/audit.jsonl"), ErrorKind::NotFound),
    ] {
        let error = Trail::open(&path, errors()).unwrap_err();
        assert_eq!(error.kind(), want, "{case}: {error}");
    }
    assert_eq!(fs::read_to_string(scratch.path("other")).unwrap(), "half a line");
    assert!(!scratch.path("none").exists());
}

#[test]
fn a_link_in_the_trails_place_is_never_followed_and_a_folder_on_the_way_may_be_one() {
    let scratch = Scratch::new();
    symlink(".", scratch.path("by")).unwrap();
    let trail = Opened::at(&scratch.path("by/audit.jsonl")).unwrap();
    record_a_call(&trail);
    let rotated = scratch.rotate("audit.jsonl.1");
    let whole_line = fs::read_to_string(&rotated).unwrap() + "{\"v\":2,";
    fs::write(scratch.path("other"), &whole_line).unwrap();
    for target in ["other", "none", "/dev/null", "audit.jsonl.1"] {
        symlink(target, &scratch.trail).unwrap();
        assert_eq!(trail.intent(&an_intent()).unwrap_err().kind(), ErrorKind::InvalidInput, "{target}");
        assert_eq!(trail.reopen().unwrap_err().kind(), ErrorKind::InvalidInput, "{target}");
        fs::remove_file(&scratch.trail).unwrap();
    }
    assert_eq!(fs::read_to_string(scratch.path("other")).unwrap(), whole_line);
    assert!(!scratch.path("none").exists());
    // Nor is one among the files that were rotated away.
    symlink("other", scratch.path("audit.jsonl.0")).unwrap();
    record_a_call(&trail);
    assert_eq!(fs::read_to_string(scratch.path("other")).unwrap(), whole_line);
    assert_eq!(whole(&[&rotated, &scratch.trail]), 4);
}

#[test]
fn a_lock_that_is_never_given_back_is_an_error() {
    let scratch = Scratch::new();
    let trail = scratch.open();
    let frozen = fs::File::open(&scratch.trail).unwrap();
    frozen.lock().unwrap();
    for _ in 0..2 {
        assert_eq!(trail.intent(&an_intent()).unwrap_err().kind(), ErrorKind::TimedOut);
    }
    frozen.unlock().unwrap();
    record_a_call(&trail);
    assert_eq!(whole(&[&scratch.trail]), 2);
}

#[test]
fn an_intent_whose_caller_has_gone_is_not_written_or_is_followed_by_an_outcome_that_says_so() {
    let scratch = Scratch::new();
    let trail = scratch.open();
    let frozen = fs::File::open(&scratch.trail).unwrap();
    frozen.lock().unwrap();
    let (taken, waiting) = (an_intent(), an_intent());
    let both_wait = Cell::new(false);
    trail.runtime.block_on(async {
        let gone = async {
            tokio::join!(trail.trail.intent(&taken), async {
                // The writer has had the first for a while when the second comes.
                while !trail.trail.is_doubtful() {
                    tokio::task::yield_now().await;
                }
                both_wait.set(true);
                trail.trail.intent(&waiting).await
            })
        };
        tokio::pin!(gone);
        while !both_wait.get() {
            tokio::select! {
                biased;
                _ = &mut gone => panic!("nothing can be written"),
                () = tokio::task::yield_now() => {}
            }
        }
    });
    frozen.unlock().unwrap();
    record_a_call(&trail);
    trail.trail.flush(true).unwrap();
    let verified = verify(std::slice::from_ref(&scratch.trail)).unwrap();
    assert_eq!(verified.orphaned_intents, 0, "an intent stands for a call that may have been forwarded");
    let written = fs::read_to_string(&scratch.trail).unwrap();
    assert!(!written.contains(&waiting.request_id.to_string()), "nobody waited for it any more");
    let of_taken: Vec<_> =
        written.lines().filter(|line| line.contains(&taken.request_id.to_string())).collect();
    assert!(of_taken.is_empty() || of_taken[1].contains(r#""result":"not_sent","code":"audit_unavailable""#));
}

#[test]
fn a_writer_that_is_stuck_keeps_nobody_and_tells_of_what_it_wrote_too_late() {
    let scratch = Scratch::new();
    let trail = scratch.open();
    record_a_call(&trail);
    scratch.rotate("audit.jsonl.9");
    // To go over to the next file it reads those before, and each that is locked takes it a second.
    let locked = ["audit.jsonl.1", "audit.jsonl.2", "audit.jsonl.3", "audit.jsonl.4"].map(|name| {
        let file = fs::File::create(scratch.path(name)).unwrap();
        file.lock().unwrap();
        file
    });
    let late = an_intent();
    assert_eq!(trail.intent(&late).unwrap_err().kind(), ErrorKind::TimedOut);
    assert!(trail.trail.is_doubtful());
    assert_eq!(trail.intent(&an_intent()).unwrap_err().kind(), ErrorKind::TimedOut);
    drop(locked);
    trail.reopen().unwrap();
    record_a_call(&trail);
    trail.trail.flush(true).unwrap();
    assert!(!trail.trail.is_doubtful());
    assert_eq!(whole(&[&scratch.path("audit.jsonl.9"), &scratch.trail]), 6);
    let [_, of_late, ..] = &lines(&scratch.trail)[..] else { panic!("the late intent and its outcome") };
    assert!(of_late.contains(&late.request_id.to_string()), "{of_late}");
    assert!(of_late.contains(r#""result":"not_sent","code":"audit_unavailable""#), "{of_late}");
}

/// Set in the process whose files may not grow beyond it, in bytes.
const LIMIT: &str = "N4N_GATEWAY_TEST_FILE_SIZE_LIMIT";

#[test]
fn a_write_that_fails_half_way_leaves_no_trace() {
    let Ok(limit) = env::var(LIMIT) else {
        let limited = Command::new("sh")
            .args(["-c", r#"trap "" XFSZ; ulimit -f 8; exec "$0" "$@""#])
            .arg(env::current_exe().unwrap())
            .args(["--exact", "audit::tests::failing::a_write_that_fails_half_way_leaves_no_trace"])
            .env(LIMIT, "4096")
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&limited.stdout);
        assert!(limited.status.success() && said.contains("1 passed"), "{said}");
        return;
    };
    let limit: u64 = limit.parse().unwrap();
    let scratch = Scratch::new();
    let trail = scratch.open();
    // Of a length that the limit is no multiple of.
    let intent = Intent { time: some_time(), value: Some("1910"), ..an_intent() };
    let mut records = 0;
    while trail.intent(&intent).is_ok() {
        records += 1;
    }
    let length = fs::metadata(&scratch.trail).unwrap().len();
    let left = limit - length;
    assert!((1..length / records).contains(&left), "{left} bytes were left, so that part was written");
    for _ in 0..3 {
        assert_eq!(trail.intent(&intent).unwrap_err().kind(), ErrorKind::FileTooLarge);
        assert_eq!(fs::metadata(&scratch.trail).unwrap().len(), length);
    }
    let rotated = scratch.rotate("audit.jsonl.1");
    trail.reopen().unwrap();
    trail.intent(&intent).unwrap();
    assert_eq!(whole(&[&rotated, &scratch.trail]), records + 1);
    assert!(scratch.torn().is_empty());
}
