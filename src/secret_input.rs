//! Secrets on standard input: no copy of them stays in memory, and a terminal does not show them.

use std::{
    io::{self, IsTerminal},
    os::fd::AsFd,
};

use rustix::termios::{LocalModes, OptionalActions, SpecialCodeIndex, Termios, tcgetattr, tcsetattr};
use zeroize::Zeroizing;

use crate::telemetry::log;

/// The longest line that is taken from a terminal, in bytes; more than any key has.
const LONGEST_LINE: usize = 1024;

/// Everything on standard input, or the line that is typed where that is a terminal.
///
/// # Errors
/// Those of reading, or that there are more than `most` bytes.
pub fn read_or_ask(prompt: &str, most: usize) -> io::Result<Zeroizing<Vec<u8>>> {
    if io::stdin().is_terminal() { ask(prompt) } else { read(most) }
}

/// Everything on standard input.
///
/// # Errors
/// Those of reading, or that there are more than `most` bytes.
pub fn read(most: usize) -> io::Result<Zeroizing<Vec<u8>>> {
    // Not through a buffered reader or into a vector that grows: both leave copies behind.
    let mut all = Zeroizing::new(vec![0; most + 1]);
    let mut length = 0;
    loop {
        match rustix::io::retry_on_intr(|| rustix::io::read(io::stdin(), &mut all[length..]))? {
            0 => break,
            count => length += count,
        }
        if length > most {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                format!("it is longer than {most} bytes"),
            ));
        }
    }
    all.truncate(length);
    Ok(all)
}

/// Asks for a line on the terminal.
fn ask(prompt: &str) -> io::Result<Zeroizing<Vec<u8>>> {
    let _hidden = Hidden::begin()?;
    log::ask(prompt);
    let line = typed_line();
    // What ended the line was not shown either.
    log::ask("\n");
    line
}

fn typed_line() -> io::Result<Zeroizing<Vec<u8>>> {
    const END_OF_INPUT: u8 = 0x04;
    const INTERRUPT: u8 = 0x03;
    const ERASE_LINE: u8 = 0x15;
    let mut line = Zeroizing::new(Vec::with_capacity(LONGEST_LINE));
    let mut byte = Zeroizing::new([0]);
    loop {
        let count = rustix::io::retry_on_intr(|| rustix::io::read(io::stdin(), &mut *byte))?;
        match byte[0] {
            _ if count == 0 => return Ok(line),
            b'\r' | b'\n' | END_OF_INPUT => return Ok(line),
            INTERRUPT => return Err(io::ErrorKind::Interrupted.into()),
            ERASE_LINE => line.clear(),
            0x08 | 0x7f => drop(line.pop()),
            _ if line.len() == LONGEST_LINE => {}
            byte => line.push(byte),
        }
    }
}

/// The terminal while it shows nothing that is typed and hands it over byte by byte; as it was before once dropped.
///
/// Keys that send signals are bytes too meanwhile, so that none of them leaves the terminal like this.
struct Hidden(Termios);

impl Hidden {
    fn begin() -> io::Result<Self> {
        let stdin = io::stdin();
        let before = tcgetattr(stdin.as_fd())?;
        let mut hidden = before.clone();
        hidden.local_modes -= LocalModes::ECHO | LocalModes::ECHONL | LocalModes::ICANON | LocalModes::ISIG;
        hidden.special_codes[SpecialCodeIndex::VMIN] = 1;
        hidden.special_codes[SpecialCodeIndex::VTIME] = 0;
        tcsetattr(stdin.as_fd(), OptionalActions::Flush, &hidden)?;
        Ok(Self(before))
    }
}

impl Drop for Hidden {
    fn drop(&mut self) {
        // A terminal that is gone has no modes to restore.
        let _ = tcsetattr(io::stdin().as_fd(), OptionalActions::Flush, &self.0);
    }
}
