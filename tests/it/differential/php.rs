//! Real PHP's `parse_str`, asked about many bodies at once.

use std::io::{Read, Write};
use std::process::{Child, Stdio};

use crate::harness::{package_root, tool};

/// How PHP stands for an array where a value's length would be.
const ARRAY_MARK: u32 = u32::MAX;

/// What `parse_str` made of one body.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Reading {
    /// Whether the body is nothing but one variable, spelt as it was read.
    pub(super) is_plain: bool,
    /// Each variable's name, and its value where that is no array.
    pub(super) variables: Vec<(Vec<u8>, Option<Vec<u8>>)>,
}

/// A PHP process that runs `tests/upstream/parse_str.php`.
pub(super) struct ParseStr {
    child: Child,
}

impl ParseStr {
    pub(super) fn start() -> Self {
        let script = package_root().join("tests/upstream/parse_str.php");
        // Without the machine's php.ini, whose limits may be others.
        let child = tool("php", "install php-cli")
            .arg("-n")
            .arg(script)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        Self { child }
    }

    /// What PHP makes of each body. It reads them all before it answers, so neither side waits on a full pipe.
    pub(super) fn read(&mut self, bodies: &[Vec<u8>]) -> Vec<Reading> {
        let mut block = Vec::new();
        for body in bodies {
            block.extend_from_slice(&length(body));
            block.extend_from_slice(body);
        }
        let stdin = self.child.stdin.as_mut().unwrap();
        stdin.write_all(&length(&block)).unwrap();
        stdin.write_all(&block).unwrap();
        stdin.flush().unwrap();

        let stdout = self.child.stdout.as_mut().unwrap();
        let mut size = [0; 4];
        stdout.read_exact(&mut size).unwrap();
        let mut answer = vec![0; u32::from_le_bytes(size) as usize];
        stdout.read_exact(&mut answer).unwrap();

        let mut rest = Rest(&answer);
        let readings: Vec<Reading> = bodies.iter().map(|_| rest.reading()).collect();
        assert!(rest.0.is_empty(), "PHP answered more than it was asked");
        readings
    }
}

impl Drop for ParseStr {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn length(bytes: &[u8]) -> [u8; 4] {
    u32::try_from(bytes.len()).unwrap().to_le_bytes()
}

/// What of an answer has not been taken yet.
struct Rest<'a>(&'a [u8]);

impl Rest<'_> {
    fn reading(&mut self) -> Reading {
        let is_plain = self.bytes(1) == [1];
        let variables = (0..self.number()).map(|_| {
            let name = self.number();
            let name = self.bytes(name);
            let value = self.number();
            (name, (value != ARRAY_MARK).then(|| self.bytes(value)))
        });
        Reading { variables: variables.collect(), is_plain }
    }

    fn number(&mut self) -> u32 {
        u32::from_le_bytes(self.bytes(4).try_into().unwrap())
    }

    fn bytes(&mut self, count: u32) -> Vec<u8> {
        let (bytes, rest) = self.0.split_at(count as usize);
        self.0 = rest;
        bytes.to_vec()
    }
}
