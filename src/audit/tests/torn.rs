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
        assert_eq!(trail.torn(), 1, "{case}");
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
        assert_eq!((trail.torn(), other.torn()), (1, 0), "{case}");
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
fn a_torn_record_at_the_end_of_a_rotated_file_is_put_aside() {
    let scratch = Scratch::new();
    record_a_call(&scratch.open());
    tear(&scratch.trail, b"{");
    let rotated = scratch.rotate("audit.jsonl.1");
    record_a_call(&scratch.open());
    assert_kept_apart("rotated after", &scratch, b"{");
    assert_eq!(whole(&[&rotated, &scratch.trail]), 4);
}
