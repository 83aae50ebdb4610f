//! How much memory many users take.

use super::*;
use crate::enumeration::window::FEW;

/// The binary's own, since allocators differ in what they lose to rounding.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// What a hundred thousand users may take at once.
const MOST: usize = 48 << 20;

const USERS: u64 = 100_000;

/// Of these, who went from nothing to a sketch by themselves, leaving behind what they outgrew.
const GROWN: u64 = 10_000;

#[test]
fn a_hundred_thousand_users_fit_whatever_they_ask_for() {
    // In a process of its own, whose memory nothing else is taken from.
    let filling = std::env::current_exe().unwrap();
    let arguments = ["--exact", "enumeration::tests::memory::fill", "--ignored", "--nocapture"];
    let output = std::process::Command::new(filling).args(arguments).output().unwrap();
    let told = String::from_utf8_lossy(&output.stdout);
    let grown = told.lines().find_map(|line| line.split_once("grown by ")?.1.parse::<usize>().ok());
    let grown = grown.unwrap_or_else(|| panic!("{told}"));
    println!("{grown} bytes, {} a user", grown as u64 / USERS);
    assert!(grown <= MOST, "{grown} bytes");
    assert!(grown >= USERS as usize * 384, "{grown} bytes are too few to be true");
}

#[test]
#[ignore = "run by the test above, in a process of its own"]
fn fill() {
    let now = Instant::now();
    let table = Table::new(Steps::of(HOUR, now));
    table.bound(USERS as usize * 2);
    let mut seeded = Seeded(1);
    let before = resident();
    // A few values each, then more, so that what was outgrown lies between what is kept.
    for values in [5, 20, FEW + 5 - 25] {
        for user in 0..GROWN {
            table.with(Seeded(user).next(), 0, |window, _| {
                for _ in 0..values {
                    window.ask(seeded.value(), 0, u32::MAX, false);
                }
            });
        }
    }
    let mut grown = Window::at(0);
    for _ in 0..FEW + 5 {
        grown.ask(seeded.value(), 0, u32::MAX, false);
    }
    for user in GROWN..USERS {
        table.with(Seeded(user).next(), 0, |window, _| *window = grown.clone());
    }
    assert_eq!(table.len(), USERS as usize);
    println!("\ngrown by {}", resident() - before);
}

/// The process' resident memory, in bytes.
fn resident() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<usize>().unwrap() * 1024
}
