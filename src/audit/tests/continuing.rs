//! A chain that goes on over restarts, rotation and records that come at once.

use std::thread;

use futures_util::future::join_all;

use super::*;

#[test]
fn the_chain_goes_on_after_a_restart() {
    let scratch = Scratch::new();
    for _ in 0..3 {
        record_a_call(&scratch.open());
    }
    assert_eq!(whole(&[&scratch.trail]), 6);
}

#[test]
fn trails_that_share_a_file_take_turns() {
    let scratch = Scratch::new();
    let (one, other) = (scratch.open(), scratch.open());
    for trail in [&one, &other, &other, &one, &one, &other] {
        record_a_call(trail);
    }
    assert_eq!(whole(&[&scratch.trail]), 12);
}

#[test]
fn records_that_come_at_once_are_one_chain() {
    // More than are written at once.
    const COUNT: u64 = 600;
    let scratch = Scratch::new();
    let trail = scratch.open();
    let intents: Vec<_> = (0..COUNT).map(|_| an_intent()).collect();
    let recorded = join_all(intents.iter().map(|intent| trail.trail.intent(intent)));
    let recorded = trail.runtime.block_on(recorded);
    assert!(recorded.iter().all(Result::is_ok), "{recorded:?}");
    assert_eq!(whole(&[&scratch.trail]), COUNT);
    let ids: Vec<_> = intents.iter().map(|intent| intent.request_id.to_string()).collect();
    assert!(ids.iter().zip(lines(&scratch.trail)).all(|(id, line)| line.contains(id)), "in their order");
}

#[test]
fn a_long_record_is_found_again() {
    let scratch = Scratch::new();
    let (one, other) = (scratch.open(), scratch.open());
    for length in [4095, 4096, 4097, 65_536] {
        let value = "x".repeat(length);
        one.intent(&Intent { value: Some(&value), ..an_intent() }).unwrap();
        record_a_call(&other);
    }
    assert_eq!(whole(&[&scratch.trail]), 12);
}

#[test]
fn the_chain_goes_on_in_a_new_file_after_rotation() {
    let scratch = Scratch::new();
    let trail = scratch.open();
    record_a_call(&trail);
    let told = scratch.rotate("audit.jsonl.2");
    trail.reopen().unwrap();
    assert_eq!(fs::metadata(&scratch.trail).unwrap().len(), 0, "the old file is done with");
    record_a_call(&trail);
    let untold = scratch.rotate("audit.jsonl.1");
    record_a_call(&trail);
    assert_eq!(whole(&[&told]), 2);
    assert_eq!(whole(&[&told, &untold, &scratch.trail]), 6);
}

#[test]
fn a_reopening_without_rotation_changes_nothing() {
    let scratch = Scratch::new();
    let trail = scratch.open();
    record_a_call(&trail);
    trail.reopen().unwrap();
    record_a_call(&trail);
    assert_eq!(whole(&[&scratch.trail]), 4);
}

#[test]
fn a_trail_follows_when_another_process_goes_over_to_a_new_file() {
    let scratch = Scratch::new();
    let (told, untold) = (scratch.open(), scratch.open());
    record_a_call(&told);
    let rotated = scratch.rotate("audit.jsonl.1");
    told.reopen().unwrap();
    record_a_call(&untold);
    record_a_call(&told);
    let started = scratch.open();
    record_a_call(&started);
    record_a_call(&untold);
    assert_eq!(whole(&[&rotated]), 2);
    assert_eq!(whole(&[&rotated, &scratch.trail]), 10);
}

#[test]
fn a_trail_that_slept_through_rotations_goes_on_from_the_last_of_them() {
    let scratch = Scratch::new();
    let (busy, idle, never_used) = (scratch.open(), scratch.open(), scratch.open());
    record_a_call(&idle);
    let mut files = Vec::new();
    for name in ["audit.jsonl.3", "audit.jsonl.2", "audit.jsonl.1"] {
        record_a_call(&busy);
        files.push(scratch.rotate(name));
        busy.reopen().unwrap();
    }
    record_a_call(&idle);
    files.push(scratch.rotate("audit.jsonl.0"));
    record_a_call(&never_used);
    files.push(scratch.trail.clone());
    let files: Vec<&Path> = files.iter().map(PathBuf::as_path).collect();
    assert_eq!(whole(&files), 12);
}

#[test]
fn a_process_that_starts_during_a_rotation_takes_the_others_along() {
    let scratch = Scratch::new();
    let running = scratch.open();
    record_a_call(&running);
    let rotated = scratch.rotate("audit.jsonl-20261124");
    let started = scratch.open();
    record_a_call(&running);
    record_a_call(&started);
    assert_eq!(whole(&[&rotated]), 2);
    assert_eq!(whole(&[&rotated, &scratch.trail]), 6);
}

#[test]
fn no_record_is_misplaced_however_often_a_busy_trail_is_rotated() {
    let scratch = Scratch::new();
    let mut files = Vec::new();
    thread::scope(|scope| {
        let writers = [(); 3].map(|()| {
            let trail = scratch.open();
            scope.spawn(move || (0..100).for_each(|_| record_a_call(&trail)))
        });
        let rotating = scratch.open();
        while writers.iter().any(|writer| !writer.is_finished()) {
            files.push(scratch.rotate(&format!("audit.jsonl-{}", files.len())));
            if files.len() % 2 == 0 { rotating.reopen().unwrap() } else { record_a_call(&scratch.open()) }
        }
    });
    let rotations = files.len() as u64;
    files.push(scratch.trail.clone());
    let verified = verify(&files).unwrap_or_else(|broken| panic!("{broken}"));
    assert_eq!((verified.continues, verified.orphaned_intents), (None, 0));
    assert_eq!(verified.records, 600 + rotations.div_ceil(2) * 2);
}

#[test]
fn a_deleted_file_is_begun_anew_and_what_is_missing_shows() {
    let scratch = Scratch::new();
    let trail = scratch.open();
    record_a_call(&trail);
    let last = verify(std::slice::from_ref(&scratch.trail)).unwrap().last_hash;
    fs::remove_file(&scratch.trail).unwrap();
    record_a_call(&trail);
    let verified = verify(std::slice::from_ref(&scratch.trail)).unwrap();
    assert_eq!((verified.records, verified.continues), (2, last));
}

#[test]
fn records_taken_out_at_the_end_of_a_running_trail_show() {
    let scratch = Scratch::new();
    let trail = scratch.open();
    record_a_call(&trail);
    record_a_call(&trail);
    let kept = lines(&scratch.trail)[..2].iter().map(|line| line.len() as u64 + 1).sum();
    fs::OpenOptions::new().write(true).open(&scratch.trail).unwrap().set_len(kept).unwrap();
    record_a_call(&trail);
    let broken = verify(std::slice::from_ref(&scratch.trail)).unwrap_err();
    assert!(
        matches!(broken, BrokenTrail { line: Some(3), what: TrailFault::Unchained { .. }, .. }),
        "{broken}"
    );
}

#[test]
fn a_trail_that_begins_empty_goes_on_from_the_newest_rotated_file() {
    for (case, oldest, newest) in [
        ("numbered", "audit.jsonl.2", "audit.jsonl.1"),
        ("dated", "audit.jsonl-20261123", "audit.jsonl-20261124"),
        ("dated within the day", "audit.jsonl-20261124", "audit.jsonl-20261124.1"),
    ] {
        for is_created in [false, true] {
            let scratch = Scratch::new();
            record_a_call(&scratch.open());
            let oldest = scratch.rotate(oldest);
            record_a_call(&scratch.open());
            let newest = scratch.rotate(newest);
            let last = verify(&[oldest.clone(), newest.clone()]).unwrap().last_hash;

            for (name, content) in [
                ("audit.jsonl.0.gz", "\x1f\u{8b}\n\n"),
                ("audit.jsonl.torn-20991231", "{\"time\":\"2099-12-31T00:00:00Z\","),
                ("audit.jsonl.note", "not a record\n"),
                ("audit.jsonl.null", "{\"time\":\"2099-12-31T00:00:00Z\"}\n"),
                ("audit.jsonl.empty", ""),
            ] {
                fs::write(scratch.path(name), content).unwrap();
            }
            let stranger = Opened::at(&scratch.path("audit.jsonl2")).unwrap();
            record_a_call(&stranger);
            if is_created {
                fs::write(&scratch.trail, "").unwrap();
            }

            record_a_call(&scratch.open());
            let verified = verify(std::slice::from_ref(&scratch.trail)).unwrap();
            assert_eq!(verified.continues, last, "{case}, created: {is_created}");
            assert_eq!(whole(&[&oldest, &newest, &scratch.trail]), 6, "{case}, created: {is_created}");
        }
    }
}

#[test]
fn a_gap_a_copy_or_a_clock_set_back_does_not_mislead_a_trail_that_begins_empty() {
    type Change = fn(&Scratch);
    const FORTH: [u64; 3] = [0, 3600, 7200];
    const BACK: [u64; 3] = [7200, 3600, 0];
    let cases: [(&str, [u64; 3], Change, usize); 5] = [
        ("a gap", FORTH, |scratch| fs::remove_file(scratch.path("audit.jsonl.2")).unwrap(), 2),
        ("a whole copy", FORTH, |scratch| copy(scratch, "audit.jsonl.1", 2), 0),
        ("a copy made too early", FORTH, |scratch| copy(scratch, "audit.jsonl.1", 1), 0),
        ("a clock set back", BACK, |_| {}, 0),
        ("a clock set back, and a copy made too early", BACK, |scratch| copy(scratch, "audit.jsonl.1", 1), 0),
    ];
    for (case, times, change, first) in cases {
        let scratch = Scratch::new();
        let mut files = Vec::new();
        for (name, seconds) in ["audit.jsonl.3", "audit.jsonl.2", "audit.jsonl.1"].into_iter().zip(times) {
            let trail = scratch.open();
            for record in 0..2 {
                let time = some_time() + Duration::from_secs(seconds + record);
                trail.intent(&Intent { time, ..an_intent() }).unwrap();
            }
            files.push(scratch.rotate(name));
        }
        change(&scratch);
        record_a_call(&scratch.open());
        files.push(scratch.trail.clone());
        let verified = verify(&files[first..]).unwrap_or_else(|broken| panic!("{case}: {broken}"));
        assert_eq!(verified.records, 8 - 2 * first as u64, "{case}");
    }
}

/// Copies the first lines of a file, as whoever wanted to look at it may have done.
fn copy(scratch: &Scratch, name: &str, count: usize) {
    let kept = lines(&scratch.path(name))[..count].join("\n") + "\n";
    fs::write(scratch.path("audit.jsonl.bak"), kept).unwrap();
}

#[test]
fn a_trail_in_the_current_folder_has_its_neighbours_there() {
    // Only reading: the folder is the package's own.
    assert_eq!(crate::audit::earlier::last(Path::new("no-such-audit.jsonl")).unwrap(), None);
}
