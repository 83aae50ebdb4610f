//! Records that were written in part.

use std::{io::Write, os::unix::fs::PermissionsExt};

use super::*;

fn tear(path: &Path, piece: &[u8]) {
    fs::OpenOptions::new().append(true).create(true).open(path).unwrap().write_all(piece).unwrap();
}

fn pieces() -> [(&'static str, Vec<u8>); 4] {
    [
        ("one byte", b"{".to_vec()),
        ("half a record", br#"{"time":"2026-11-24T10:00:01Z","event":"int"#.to_vec()),
        ("nothing but NUL", vec![0; 4096]),
        ("longer than a chunk", vec![b'x'; 10_000]),
    ]
}

fn assert_kept_apart(case: &str, scratch: &Scratch, piece: &[u8]) {
    let [torn] = &scratch.torn()[..] else { panic!("{case}: one piece put aside") };
    assert_eq!(fs::read(torn).unwrap(), piece, "{case}");
    assert_eq!(fs::metadata(torn).unwrap().permissions().mode() & 0o777, 0o600, "{case}");
}

#[test]
fn a_torn_record_is_put_aside_at_the_start() {
    for (case, piece) in pieces() {
        let scratch = Scratch::new();
        record_a_call(&scratch.open());
        tear(&scratch.trail, &piece);
        let trail = scratch.open();
        assert_kept_apart(case, &scratch, &piece);
        assert_eq!(whole(&[&scratch.trail]), 2, "{case}: before anything is written");
        record_a_call(&trail);
        assert_eq!(whole(&[&scratch.trail]), 4, "{case}");
    }
}

#[test]
fn a_record_that_another_process_left_torn_is_put_aside() {
    for (case, piece) in pieces() {
        let scratch = Scratch::new();
        let (trail, other) = (scratch.open(), scratch.open());
        record_a_call(&trail);
        record_a_call(&other);
        tear(&scratch.trail, &piece);
        record_a_call(&trail);
        record_a_call(&other);
        assert_kept_apart(case, &scratch, &piece);
        assert_eq!(whole(&[&scratch.trail]), 8, "{case}");
    }
}

#[test]
fn a_file_with_nothing_but_a_torn_record_counts_as_empty() {
    let scratch = Scratch::new();
    record_a_call(&scratch.open());
    let rotated = scratch.rotate("audit.jsonl.1");
    tear(&scratch.trail, b"{");
    record_a_call(&scratch.open());
    assert_kept_apart("rotated before", &scratch, b"{");
    assert_eq!(whole(&[&rotated, &scratch.trail]), 4);
}

#[test]
fn what_is_no_trail_is_never_cut() {
    let (empty, piece) = (String::new(), "half a line of somebody else's");
    let trail = {
        let scratch = Scratch::new();
        record_a_call(&scratch.open());
        fs::read_to_string(&scratch.trail).unwrap()
    };
    for (case, before, is_cut) in [
        ("nothing before it", empty, false),
        ("another file's lines", "root:x:0:0\ndaemon:x:1:1\n".to_owned(), false),
        ("JSON that is no record", "{\"time\":\"2026-11-24T10:00:01Z\"}\n".to_owned(), false),
        ("a line longer than any record", "x".repeat(2 << 20) + "\n", false),
        ("a trail", trail.clone(), true),
        ("a trail that a line was added to", trail + "note\n", true),
    ] {
        let scratch = Scratch::new();
        fs::write(&scratch.trail, format!("{before}{piece}")).unwrap();
        let opened = Opened::at(&scratch.trail).map(drop);
        if is_cut {
            opened.unwrap();
            assert_kept_apart(case, &scratch, piece.as_bytes());
            continue;
        }
        let error = opened.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidData, "{case}: {error}");
        assert!(error.to_string().contains("move it away"), "{case}: {error}");
        assert_eq!(fs::read_to_string(&scratch.trail).unwrap(), format!("{before}{piece}"), "{case}");
        assert!(scratch.torn().is_empty(), "{case}");
    }
}

#[test]
fn another_file_in_the_trails_place_is_not_cut_while_the_gateway_runs() {
    let scratch = Scratch::new();
    let trail = scratch.open();
    record_a_call(&trail);
    let rotated = scratch.rotate("audit.jsonl.1");
    fs::write(&scratch.trail, "line\nhalf").unwrap();
    for _ in 0..2 {
        assert_eq!(trail.intent(&an_intent()).unwrap_err().kind(), io::ErrorKind::InvalidData);
    }
    assert_eq!(trail.reopen().unwrap_err().kind(), io::ErrorKind::InvalidData);
    assert_eq!(fs::read_to_string(&scratch.trail).unwrap(), "line\nhalf");
    scratch.rotate("elsewhere");
    record_a_call(&trail);
    assert_eq!(whole(&[&rotated, &scratch.trail]), 4);
}

#[test]
fn the_chain_goes_on_behind_a_rotated_file_that_ended_in_a_torn_record() {
    let scratch = Scratch::new();
    let trail = scratch.open();
    record_a_call(&trail);
    let first = scratch.rotate("audit.jsonl.2");
    // Another process writes the next one, which this one never has open.
    record_a_call(&scratch.open());
    tear(&scratch.trail, b"{\"v\":2,");
    let second = scratch.rotate("audit.jsonl.1");
    record_a_call(&trail);
    assert_kept_apart("rotated", &scratch, b"{\"v\":2,");
    assert_eq!(whole(&[&first, &second, &scratch.trail]), 6);
}

#[test]
fn a_torn_record_at_the_end_of_a_rotated_file_is_put_aside() {
    let scratch = Scratch::new();
    record_a_call(&scratch.open());
    tear(&scratch.trail, b"{");
    let rotated = scratch.rotate("audit.jsonl.1");
    record_a_call(&scratch.open());
    assert_kept_apart("rotated after", &scratch, b"{");
    assert_eq!(whole(&[&rotated, &scratch.trail]), 4);
}
