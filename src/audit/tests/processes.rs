//! Several processes that write one trail, and are killed while they do.

use std::{
    env,
    io::{self, BufRead, BufReader, Write},
    process::{Child, ChildStderr, Command, Stdio},
};

use super::*;

/// Set in a process that appends to another's trail: the trail, and how many records to append.
const TRAIL: &str = "N4N_GATEWAY_TEST_TRAIL";
const RECORDS: &str = "N4N_GATEWAY_TEST_RECORDS";

/// What an appending process says on standard error once a record has been accepted.
const ACCEPTED: &str = "accepted ";

#[test]
fn a_trail_is_whole_while_it_is_written() {
    let scratch = Scratch::new();
    let shared = env::var_os(TRAIL).map(PathBuf::from);
    let path = shared.as_ref().unwrap_or(&scratch.trail);
    let records = env::var(RECORDS).map_or(20, |records| records.parse::<u64>().unwrap());
    let trail = Opened::at(path).unwrap();
    for count in 0..records {
        let intent = an_intent();
        trail.intent(&intent).unwrap();
        if shared.is_some() {
            writeln!(io::stderr(), "{ACCEPTED}{}", intent.request_id).unwrap();
        } else {
            assert_eq!(whole(&[path]), count + 1);
        }
    }
    assert!(whole(&[path]) >= records);
}

/// A process that appends to the scratch folder's trail.
struct Appender {
    process: Child,
    says: BufReader<ChildStderr>,
}

impl Appender {
    fn start(scratch: &Scratch, records: u64) -> Self {
        let mut process = Command::new(env::current_exe().unwrap())
            .args(["--exact", "audit::tests::processes::a_trail_is_whole_while_it_is_written"])
            .env(TRAIL, &scratch.trail)
            .env(RECORDS, records.to_string())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let says = BufReader::new(process.stderr.take().unwrap());
        Self { process, says }
    }

    /// The next record that it has appended.
    fn accepted(&mut self) -> Option<String> {
        let mut line = String::new();
        while self.says.read_line(&mut line).unwrap() > 0 {
            if let Some(id) = line.strip_prefix(ACCEPTED).and_then(|id| id.strip_suffix('\n')) {
                return Some(id.to_owned());
            }
            line.clear();
        }
        None
    }
}

#[test]
fn processes_that_share_a_trail_keep_one_chain() {
    let scratch = Scratch::new();
    let appenders: Vec<_> = (0..4).map(|_| Appender::start(&scratch, 150)).collect();
    for mut appender in appenders {
        assert!(appender.accepted().is_some());
        whole(&[&scratch.trail]);
        while appender.accepted().is_some() {}
        assert!(appender.process.wait().unwrap().success());
    }
    assert_eq!(whole(&[&scratch.trail]), 600);
}

#[test]
fn processes_that_are_killed_leave_a_chain_with_all_they_had_accepted() {
    let scratch = Scratch::new();
    let mut last = None;
    for round in 0..50 {
        let mut appenders = [(); 2].map(|()| Appender::start(&scratch, u64::MAX));
        let mut accepted: Vec<_> = (0..=round).map(|_| appenders[0].accepted().unwrap()).collect();
        for appender in &mut appenders {
            appender.process.kill().unwrap();
            appender.process.wait().unwrap();
            accepted.extend(std::iter::from_fn(|| appender.accepted()));
        }
        drop(scratch.open());
        let verified = verify(std::slice::from_ref(&scratch.trail)).unwrap();
        assert_eq!(verified.continues, last, "round {round}");
        let recorded = fs::read_to_string(&scratch.trail).unwrap();
        for id in accepted {
            assert!(recorded.contains(&id), "round {round}: {id} was accepted");
        }
        last = verified.last_hash;
        scratch.rotate(&format!("audit.jsonl-{round}"));
    }
}
