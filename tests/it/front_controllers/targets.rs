//! Targets that may lead to an unlock call, and some that do not, made from a seed.

use std::collections::BTreeSet;

/// Where an application may be found.
const SCRIPTS: [&str; 9] = [
    "/api/index.php",
    "/index.php",
    "/api.php",
    "//api/index.php",
    "/api/./index.php",
    "/x/../api/index.php",
    "/api%2findex.php",
    "/api/index.php/api",
    "/%61pi.php",
];

/// What stands before a query.
const BASES: [&str; 6] = ["/", "/api/", "/index.php", "/api/index.php", "/api.php", "/api/index.php/"];

/// Parameters that have a route.
const PARAMETERS: [&str; 8] = ["route", "r", "q", "_url", "url", "path", "do", "%72oute"];

/// What some server or application takes for the end of a segment.
const SLASHES: [&str; 12] = ["/", "/", "/", "/", "//", "/./", "/x/../", "%2f", "%2F", "\\", "/%2e/", "%252f"];

/// What some application takes for the end of a word in a route.
const MARKS: [&str; 11] = ["/", "/", "/", "%2f", "%2F", ".", "::", "_", "-", "+", "%20"];

/// What may stand behind a path.
const TAILS: [&str; 9] = ["", "", "", "/", "//", "?x=1", "/?", "%0a", "%20"];

/// Pairs that mean nothing.
const JUNK: [&str; 4] = ["x=1", "page=2", "a[]=b", "lang=de"];

/// So many different targets.
pub(super) fn from_seed(seed: u64, count: usize) -> Vec<String> {
    let (mut random, mut known, mut targets) = (Random(seed), BTreeSet::new(), Vec::new());
    while targets.len() < count {
        let target = random.target();
        if known.insert(target.clone()) {
            targets.push(target);
        }
    }
    targets
}

/// A generator of numbers (splitmix64).
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ mixed >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ mixed >> 31
    }

    fn below(&mut self, end: usize) -> usize {
        (self.next() % end as u64) as usize
    }

    fn pick(&mut self, from: &[&'static str]) -> &'static str {
        from[self.below(from.len())]
    }

    fn target(&mut self) -> String {
        match self.below(10) {
            0..=2 => self.behind_a_script(),
            3 | 4 => self.in_a_parameter(),
            5 => self.in_two_parameters(),
            6 => self.in_a_name(),
            7 | 8 => self.left_to_rewriting(),
            _ => self.elsewhere(),
        }
    }

    fn behind_a_script(&mut self) -> String {
        [self.pick(&SCRIPTS), &self.path(), self.pick(&TAILS)].concat()
    }

    fn left_to_rewriting(&mut self) -> String {
        let before = self.pick(&["", "/api", "/API", "/%61pi", "/x/../api", "//api"]);
        [before, &self.path(), self.pick(&TAILS)].concat()
    }

    fn path(&mut self) -> String {
        let slash = self.pick(&SLASHES);
        let [first, second] = [self.word("customer"), self.word("unlock")];
        // What begins a target is a slash.
        format!("/{}{first}{slash}{second}", if slash == "//" { "/" } else { "" })
    }

    fn in_a_parameter(&mut self) -> String {
        let (base, name, mark) = (self.pick(&BASES), self.pick(&PARAMETERS), self.pick(&MARKS));
        let [first, second] = [self.word("customer"), self.word("unlock")];
        let before = self.pick(&["", "", "/", "api/", "/api/", "/api/index.php/"]);
        let route = match self.below(4) {
            0 => format!("{name}[]={first}&{name}[]={second}"),
            1 => format!("{name}%5Ba%5D={first}&{name}[b]={second}"),
            _ => format!("{name}={before}{first}{mark}{second}"),
        };
        format!("{base}?{}", self.among_junk(&route))
    }

    fn in_two_parameters(&mut self) -> String {
        let base = self.pick(&BASES);
        let mut pairs =
            [format!("controller={}", self.word("customer")), format!("action={}", self.word("unlock"))];
        if self.below(2) == 0 {
            pairs.reverse();
        }
        let between = ["&", "&&", "&x=1&"][self.below(3)];
        format!("{base}?{}", self.among_junk(&pairs.join(between)))
    }

    fn in_a_name(&mut self) -> String {
        let base = self.pick(&BASES);
        let [first, second] = [self.word("customer"), self.word("unlock")];
        let before = self.pick(&["", "/", "api/"]);
        format!(
            "{base}?{before}{first}{}{second}{}",
            self.pick(&["/", "=", "%2f"]),
            self.pick(&["", "=1", "&x"])
        )
    }

    /// Targets that no application takes for the unlock call.
    fn elsewhere(&mut self) -> String {
        let number = self.below(100_000);
        match self.below(6) {
            0 => format!("/static/{number}.js"),
            1 => format!("/api/customer/{number}"),
            2 => format!("/api/?route=customer/show&id={number}"),
            3 => format!("/index.php?q=unlock%20me&page={number}"),
            4 => format!("/api/index.php/subscription/unlock?id={number}"),
            _ => format!("/?controller=customer&action=show&id={number}"),
        }
    }

    fn among_junk(&mut self, pairs: &str) -> String {
        match self.below(3) {
            0 => format!("{}&{pairs}", self.pick(&JUNK)),
            1 => format!("{pairs}&{}", self.pick(&JUNK)),
            _ => pairs.to_owned(),
        }
    }

    /// A word in a spelling that some comparison takes for it.
    fn word(&mut self, word: &str) -> String {
        let at = self.below(word.len());
        let (before, letter, behind) = (&word[..at], &word[at..=at], &word[at + 1..]);
        let escape = format!("%{:02x}", letter.as_bytes()[0]);
        match self.below(12) {
            0..=3 => word.to_owned(),
            4 => word.to_uppercase(),
            5 => format!("{before}{}{behind}", letter.to_uppercase()),
            6 | 7 => format!("{before}{escape}{behind}"),
            8 => word.bytes().map(|byte| format!("%{byte:02X}")).collect(),
            9 => word.replace('s', "%c5%bf").replace('k', "%e2%84%aa"),
            10 => format!("{before}%01{letter}{behind}"),
            _ => format!("{before}%25{}{behind}", &escape[1..]),
        }
    }
}
