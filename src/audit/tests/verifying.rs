//! What verifying finds in a trail that was changed.

use std::os::unix::fs::FileExt;

use super::*;

/// A whole trail of three calls.
fn a_trail() -> (Scratch, Vec<String>) {
    let scratch = Scratch::new();
    let trail = scratch.open();
    for _ in 0..3 {
        record_a_call(&trail);
    }
    let lines = lines(&scratch.trail);
    (scratch, lines)
}

fn verify_one(path: &Path) -> Result<Verified, BrokenTrail> {
    verify(&[path.to_owned()])
}

fn verify_lines(scratch: &Scratch, lines: &[String]) -> Result<Verified, BrokenTrail> {
    let path = scratch.path("changed.jsonl");
    fs::write(&path, lines.iter().flat_map(|line| [line, "\n"]).collect::<String>()).unwrap();
    verify_one(&path)
}

#[test]
fn a_whole_trail_tells_its_length_and_its_last_hash() {
    let (scratch, lines) = a_trail();
    let last_hash = Some(Digest::of(lines[5].as_bytes()));
    let want = Verified { records: 6, last_hash, continues: None, orphaned_intents: 0 };
    assert_eq!(verify_one(&scratch.trail).unwrap(), want);
}

#[test]
fn an_empty_trail_is_whole() {
    let scratch = Scratch::new();
    let trail = scratch.open();
    let want = Verified { records: 0, last_hash: None, continues: None, orphaned_intents: 0 };
    assert_eq!(verify_one(&scratch.trail).unwrap(), want);
    drop(trail);
}

#[test]
fn any_flipped_byte_is_found() {
    let (scratch, lines) = a_trail();
    let whole = fs::read(&scratch.trail).unwrap();
    let last_hash = verify_one(&scratch.trail).unwrap().last_hash;
    let last = whole.len() - lines[5].len() - 1;
    let file = fs::OpenOptions::new().write(true).open(&scratch.trail).unwrap();
    for (at, byte) in whole.iter().enumerate() {
        file.write_all_at(&[byte ^ 1 << (at % 8)], at as u64).unwrap();
        match verify_one(&scratch.trail) {
            Ok(verified) => {
                assert!(at >= last, "byte {at} is in a record that another one follows");
                assert_ne!(verified.last_hash, last_hash, "byte {at}: the outside copy tells");
            }
            Err(broken) => {
                let line = whole[..at].iter().filter(|byte| **byte == b'\n').count() as u64 + 1;
                assert!(
                    (line..=line + 1).contains(&broken.line.unwrap()),
                    "byte {at} of line {line}: {broken}"
                );
            }
        }
        file.write_all_at(&[*byte], at as u64).unwrap();
    }
}

#[test]
fn a_removed_a_repeated_and_a_foreign_line_are_found() {
    let (scratch, lines) = a_trail();
    let (_, foreign) = a_trail();
    for at in 0..lines.len() {
        let mut removed = lines.clone();
        removed.remove(at);
        match verify_lines(&scratch, &removed) {
            // Only what an outside copy knows can tell these two.
            Ok(verified) if at == 0 => assert_eq!(verified.continues, Some(Digest::of(lines[0].as_bytes()))),
            Ok(verified) => assert_eq!((at, verified.records), (5, 5)),
            Err(broken) => assert_eq!(broken.line, Some(at as u64 + 1), "{broken}"),
        }
        let mut repeated = lines.clone();
        repeated.insert(at, lines[at].clone());
        assert_eq!(verify_lines(&scratch, &repeated).unwrap_err().line, Some(at as u64 + 2));
        let mut replaced = lines.clone();
        replaced[at] = foreign[at].clone();
        let line = verify_lines(&scratch, &replaced).unwrap_err().line;
        assert_eq!(line, Some((at as u64 + 1).max(2)), "line {} is of another trail", at + 1);
    }
}

#[test]
fn any_two_swapped_lines_are_found() {
    let (scratch, lines) = a_trail();
    for one in 0..lines.len() {
        for other in one + 1..lines.len() {
            let mut swapped = lines.clone();
            swapped.swap(one, other);
            let line = verify_lines(&scratch, &swapped).unwrap_err().line;
            assert_eq!(line, Some((one as u64 + 1).max(2)), "lines {} and {}", one + 1, other + 1);
        }
    }
}

#[test]
fn what_is_no_record_is_named() {
    let (scratch, lines) = a_trail();
    let prev = &lines[5][lines[5].len() - 66..lines[5].len() - 2];
    for (case, line, want) in [
        ("empty", "\n".to_owned(), "not a record; reading it fails at column 0"),
        ("not JSON", "prev\n".to_owned(), "not a record; reading it fails at column 1"),
        ("no object", "[1]\n".to_owned(), "not a record; reading it fails at column 1"),
        ("a record's members", format!("[2,null,null,null,\"{prev}\"]\n"), "not a record"),
        ("without prev", "{}\n".to_owned(), "a record without `prev`"),
        (
            "a version to come",
            format!("{{\"v\":3,\"prev\":\"{prev}\"}}\n"),
            "a record of version 3, and this release knows none after 2",
        ),
        ("no version", format!("{{\"v\":\"2\",\"prev\":\"{prev}\"}}\n"), "not a record"),
        ("a short prev", format!("{{\"prev\":\"{}\"}}\n", &prev[1..]), "a record without `prev`"),
        ("two prevs", format!("{{\"prev\":\"{prev}\",\"prev\":\"{prev}\"}}\n"), "not a record"),
        ("no line break", format!("{{\"prev\":\"{prev}\"}}"), "the last record is incomplete"),
        ("half a record", "{\"prev\":".to_owned(), "the last record is incomplete"),
        ("endless", "x".repeat(3 << 20), "longer than any record"),
        ("another chain's", format!("{{\"prev\":\"{prev}\"}}\n"), "does not follow the record before it"),
    ] {
        let path = scratch.path("changed.jsonl");
        fs::write(&path, format!("{}{line}", fs::read_to_string(&scratch.trail).unwrap())).unwrap();
        let broken = verify_one(&path).unwrap_err().to_string();
        let place = format!("{}:7: {want}", path.display());
        assert!(broken.starts_with(&place), "{case}: {broken}");
    }
}

#[test]
fn files_are_one_chain_in_the_order_given() {
    let scratch = Scratch::new();
    let trail = scratch.open();
    let mut files = Vec::new();
    for name in ["audit.jsonl.3", "audit.jsonl.2", "audit.jsonl.1"] {
        record_a_call(&trail);
        files.push(scratch.rotate(name));
        trail.reopen().unwrap();
    }
    files.push(scratch.trail.clone());
    assert_eq!(verify(&files).unwrap().records, 6, "an empty file at the end is whole");

    let first = verify(&files[..1]).unwrap().last_hash;
    assert_eq!(verify(&files[1..]).unwrap().continues, first);
    let broken = verify(&[files[0].clone(), files[2].clone()]).unwrap_err();
    assert!(matches!(broken.what, TrailFault::Unchained { .. }) && broken.line == Some(1), "{broken}");
    assert_eq!(broken.file, files[2]);
    files.push(scratch.path("none"));
    let none = verify(&files).unwrap_err();
    let folder = verify_one(scratch.folder.path()).unwrap_err();
    for broken in [none, folder] {
        assert!(matches!(broken.what, TrailFault::Unreadable(_)) && broken.line.is_none(), "{broken}");
        assert!(
            broken.to_string().starts_with(&format!("{}: cannot be read", broken.file.display())),
            "{broken}"
        );
    }
}

#[test]
fn records_without_a_version_and_what_is_not_known_are_read_in_one_chain_with_the_others() {
    let scratch = Scratch::new();
    let old = |event: &str, prev: Digest| {
        format!(r#"{{"time":"2026-11-24T10:00:01.5Z","event":"{event}","request_id":"7","prev":"{prev}"}}"#)
    };
    let intent = old("intent", Digest::START);
    let outcome = old("outcome", Digest::of(intent.as_bytes()));
    let prev = Digest::of(outcome.as_bytes());
    let added = format!(
        r#"{{"v":2,"event":"checkpoint","signature":{{"by":[1,null]}},"gateway":"a","prev":"{prev}"}}"#
    );
    fs::write(&scratch.trail, format!("{intent}\n{outcome}\n{added}\n")).unwrap();
    record_a_call(&scratch.open());
    let verified = verify_one(&scratch.trail).unwrap();
    assert_eq!((verified.records, verified.orphaned_intents), (5, 0));
    assert_eq!(verified.continues, None);
    // A release of before may go on for a while, in the same file.
    let last = verified.last_hash.unwrap();
    let more = format!("{}{}\n", fs::read_to_string(&scratch.trail).unwrap(), old("intent", last));
    fs::write(&scratch.trail, more).unwrap();
    assert_eq!(verify_one(&scratch.trail).unwrap().records, 6);
}

#[test]
fn a_trail_is_verified_by_way_of_a_link() {
    let (scratch, _) = a_trail();
    let link = scratch.path("link");
    std::os::unix::fs::symlink(&scratch.trail, &link).unwrap();
    assert_eq!(verify_one(&link).unwrap().records, 6);
}

#[test]
fn intents_without_an_outcome_are_counted() {
    let scratch = Scratch::new();
    let trail = scratch.open();
    let [one, two, three] = [(); 3].map(|()| an_intent());
    for intent in [one, two, three] {
        trail.intent(&intent).unwrap();
    }
    trail.outcome(&its_outcome(&two)).unwrap();
    trail.outcome(&its_outcome(&an_intent())).unwrap();
    assert_eq!(verify_one(&scratch.trail).unwrap().orphaned_intents, 2);
}
