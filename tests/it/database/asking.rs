//! PHP's PDO before a real MariaDB, asked about many bodies at once.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, ChildStdout, Stdio};

use serde_json::Value;

use crate::harness::{MariaDb, package_root, tool};

/// The tables of `tests/upstream/customers.php`.
pub(super) const TABLES: [&str; 4] = ["by_int", "by_bigint", "by_decimal", "by_varchar"];

/// The ways of asking: statements that PDO puts together, and statements that the server prepares.
const WAYS: [&str; 2] = ["emulated", "native"];

/// A row: its table and its id.
pub(super) type Row = (&'static str, String);

/// What the lookup of one body found.
#[derive(Debug)]
pub(super) struct Found {
    /// The ids, by way of asking and by table.
    pub(super) rows: [[Vec<String>; TABLES.len()]; WAYS.len()],
    /// What PHP's `(int)` makes of the value.
    pub(super) as_integer: String,
}

impl Found {
    pub(super) fn read(told: &Value) -> Self {
        let ids = |ids: &Value| -> Vec<String> { serde_json::from_value(ids.clone()).unwrap() };
        Self {
            rows: WAYS.map(|way| TABLES.map(|table| ids(&told[way][table]))),
            as_integer: told["cast"].as_str().unwrap().to_owned(),
        }
    }

    /// The tables in which it found a row, one way or the other.
    pub(super) fn tables_with_rows(&self) -> Vec<String> {
        let has_rows = |table: &usize| self.rows.iter().any(|tables| !tables[*table].is_empty());
        (0..TABLES.len()).filter(has_rows).map(|table| TABLES[table].to_owned()).collect()
    }
}

/// A PHP process that runs `tests/upstream/customers.php`.
pub(super) struct Asking {
    child: Child,
    questions: ChildStdin,
    answers: BufReader<ChildStdout>,
}

impl Asking {
    pub(super) fn start(database: &MariaDb) -> Self {
        let mut child = tool("php", "install php-cli and php-mysql")
            .arg(package_root().join("tests/upstream/customers.php"))
            .env("N4N_DB", database.socket())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let (questions, answers) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
        Self { child, questions, answers: BufReader::new(answers) }
    }

    /// Has these rows in the tables, and gives what each body's lookup finds. PHP reads all of it before it answers, so
    /// neither side waits on a full pipe.
    pub(super) fn ask<'a>(
        &mut self,
        rows: impl Iterator<Item = &'a Row>,
        bodies: impl Iterator<Item = String>,
    ) -> Vec<Found> {
        let mut batch = String::new();
        for (table, id) in rows {
            batch.push_str(&format!("+{table}={}\n", encoded(id)));
        }
        let mut count = 0;
        for body in bodies {
            batch.push_str(&body);
            batch.push('\n');
            count += 1;
        }
        batch.push('\n');
        self.questions.write_all(batch.as_bytes()).unwrap();
        self.questions.flush().unwrap();
        let found = (0..count).map(|_| {
            let mut line = String::new();
            self.answers.read_line(&mut line).unwrap();
            let told = serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error}: {line}"));
            Found::read(&told)
        });
        found.collect()
    }
}

impl Drop for Asking {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A text as a form has it.
pub(super) fn encoded(text: &str) -> String {
    text.bytes()
        .map(
            |byte| {
                if byte.is_ascii_alphanumeric() {
                    char::from(byte).to_string()
                } else {
                    format!("%{byte:02X}")
                }
            },
        )
        .collect()
}
