//! Form bodies on the border between what passes and what does not: a grammar, then mutations.

use crate::harness::Random;

/// The names that a body may hold.
const KEYS: [&[u8]; 3] = [b"customer_id", b"subscription_id", b"orderid"];

/// What PHP folds onto `_`, and what looks as if it were.
const FOLDS: [&[u8]; 14] = [
    b".",
    b" ",
    b"+",
    b"[",
    b"%20",
    b"%2e",
    b"%2E",
    b"%5b",
    b"%5B",
    b"%5f",
    b"%5F",
    b"-",
    b"%c1%9f",
    b"%ef%bc%bf",
];

/// What PHP may drop before a name.
const PREFIXES: [&[u8]; 12] =
    [b"+", b" ", b"%20", b"++%20", b"%00", b"\0", b".", b"[", b"\t", b"%0a", b"\xef\xbb\xbf", b"_"];

/// What PHP may drop after a name, or make an array of.
const SUFFIXES: [&[u8]; 20] = [
    b"%00", b"%00x", b"\0", b"[]", b"[a]", b"[", b"]", b"[ ]", b"[a][b", b"[a.b", b"%5b%5d", b"%5B0%5D",
    b"+", b" ", b".", b"%20", b"%", b";", b"[%00]", b"[a=1]",
];

/// Names that are no lookup key, some of them special to PHP.
const OTHER_NAMES: [&[u8]; 14] = [
    b"",
    b"a",
    b"0",
    b"00",
    b"_",
    b"this",
    b"GLOBALS",
    b"_method",
    b"id",
    b"order_id",
    b"customerid",
    b"customer",
    b"customer_id_",
    b"Customer_ID",
];

/// What is put into values, and anywhere by mutation.
const BITS: [&[u8]; 52] = [
    b".",
    b"[",
    b"]",
    b"+",
    b" ",
    b"%20",
    b"%2e",
    b"%2B",
    b"%5b",
    b"%5D",
    b"%00",
    b"\0",
    b"&",
    b"%26",
    b"=",
    b"%3d",
    b";",
    b"%3B",
    b"%",
    b"%4",
    b"%zz",
    b"%%",
    b"%25",
    b"%5f",
    b"%5F",
    b"_",
    b"\n",
    b"\r\n",
    b"\t",
    b"%0a",
    b"%0D%0A",
    b"\x0b",
    b"\x7f",
    b"-",
    b":",
    b"/",
    b"\xc3\xa9",
    b"%c3%a9",
    b"%C3",
    b"\xff",
    b"%ff",
    b"\xc0\xaf",
    b"%ed%a0%80",
    b"%f4%8f%bf%bf",
    b"%f4%90%80%80",
    b"\xef\xbb\xbf",
    b"%e2%80%8b",
    b"\xe2\x82",
    b"&&",
    b"&=",
    b"=&",
    b"&amp;",
];

const CONFORMING: &[u8] = b"0123456789abcxyzABCXYZ_.:-";

/// An endless source of bodies, the same for the same seed.
pub(super) struct Bodies {
    random: Random,
}

impl Bodies {
    pub(super) fn from_seed(seed: u64) -> Self {
        Self { random: Random(seed) }
    }

    fn body(&mut self) -> Vec<u8> {
        let mut body = match self.random.below(2000) {
            0 => self.crowd(),
            1 => self.abyss(),
            2..1200 => self.pieces(1),
            1200..1700 => self.pieces(2),
            _ => {
                let count = self.random.below(5);
                self.pieces(count)
            }
        };
        let mutations = [0, 0, 0, 0, 0, 0, 0, 1, 1, 3][self.random.below(10)];
        for _ in 0..mutations {
            self.mutate(&mut body);
        }
        body
    }

    fn pieces(&mut self, count: usize) -> Vec<u8> {
        let mut body = self.separators(4);
        for index in 0..count {
            if index > 0 {
                body.push(b'&');
            }
            body.extend(self.piece());
            body.extend(self.separators(6));
        }
        body
    }

    /// Nothing mostly, `&` or more of it one time in `rarity`.
    fn separators(&mut self, rarity: usize) -> Vec<u8> {
        let count = if self.random.one_in(rarity) { 1 + self.random.below(3) } else { 0 };
        vec![b'&'; count]
    }

    /// Around as many variables as PHP reads, and a lookup among them.
    fn crowd(&mut self) -> Vec<u8> {
        let junk: &[u8] = self.random.pick(&[b"", b"a", b"=", b"a=1", b"a[]=1", b"customer_id=1"]);
        let count = 990 + self.random.below(25);
        let place = if self.random.one_in(2) { count } else { self.random.below(count) };
        let mut pieces = vec![junk.to_vec(); count];
        pieces.insert(place, self.piece());
        pieces.join(&b'&')
    }

    /// An array around as deep as PHP goes.
    fn abyss(&mut self) -> Vec<u8> {
        let mut body = self.pieces(1);
        let key = self.random.pick(&KEYS);
        let depth = 60 + self.random.below(8);
        let index: &[u8] = self.random.pick(&[b"[]", b"[a]", b"%5b%5d"]);
        body.extend([b"&", key, &index.repeat(depth)[..], b"=1"].concat());
        body
    }

    fn piece(&mut self) -> Vec<u8> {
        let mut piece = self.name();
        if !self.random.one_in(20) {
            piece.push(b'=');
            piece.extend(self.value());
        }
        piece
    }

    fn name(&mut self) -> Vec<u8> {
        let key = self.random.pick(&KEYS);
        let name = self.spell(key);
        if self.random.one_in(6) { self.spell(&name) } else { name }
    }

    fn spell(&mut self, name: &[u8]) -> Vec<u8> {
        match self.random.below(20) {
            0..10 => name.to_vec(),
            10..13 => self.escape_some(name),
            13..15 => {
                let fold = self.random.pick(&FOLDS);
                let parts: Vec<&[u8]> = name.split(|&byte| byte == b'_').collect();
                parts.join(fold)
            }
            15 => [self.random.pick(&PREFIXES), name].concat(),
            16..18 => [name, self.random.pick(&SUFFIXES)].concat(),
            18 => {
                let mut name = name.to_vec();
                if let Some(at) = self.random.place_in(&name) {
                    name[at] ^= 0x20;
                }
                name
            }
            _ => self.random.pick(&OTHER_NAMES).to_vec(),
        }
    }

    fn value(&mut self) -> Vec<u8> {
        match self.random.below(20) {
            0..9 => {
                let length = 1 + self.random.below(8);
                self.conforming(length)
            }
            9 => {
                let length = 63 + self.random.below(3);
                self.word(length)
            }
            10 => {
                let length = 17 + self.random.below(3);
                self.number(length)
            }
            11..14 => {
                let length = 1 + self.random.below(8);
                let value = self.conforming(length);
                self.escape_some(&value)
            }
            14..17 => {
                let length = 1 + self.random.below(4);
                let mut value = self.conforming(length);
                let at = self.random.below(value.len() + 1);
                value.splice(at..at, self.random.pick(&BITS).iter().copied());
                value
            }
            17 => {
                let count = self.random.below(5);
                (0..count).flat_map(|_| self.random.pick(&BITS).to_vec()).collect()
            }
            18 => self.name(),
            _ => Vec::new(),
        }
    }

    /// A number, or now and then a word, or what is neither and has its characters.
    fn conforming(&mut self, length: usize) -> Vec<u8> {
        match self.random.below(12) {
            0..8 => self.number(length),
            8..11 => self.word(length),
            _ => (0..length).map(|_| CONFORMING[self.random.below(CONFORMING.len())]).collect(),
        }
    }

    fn number(&mut self, length: usize) -> Vec<u8> {
        let digit = |digits: &[u8], random: &mut Random| digits[random.below(digits.len())];
        let mut number = vec![digit(b"123456789", &mut self.random)];
        number.extend((1..length).map(|_| digit(b"0123456789", &mut self.random)));
        number
    }

    fn word(&mut self, length: usize) -> Vec<u8> {
        let mut word = vec![b"abcxyzABCXYZ"[self.random.below(12)]];
        word.extend((1..length).map(|_| CONFORMING[self.random.below(CONFORMING.len())]));
        word
    }

    /// Percent-encodes some bytes, in either case.
    fn escape_some(&mut self, text: &[u8]) -> Vec<u8> {
        let escaped = text.iter().map(|&byte| {
            match (byte.is_ascii_alphanumeric() || byte == b'_', self.random.below(8)) {
                (true, 0) => format!("%{byte:02x}").into_bytes(),
                (true, 1) => format!("%{byte:02X}").into_bytes(),
                (_, _) => vec![byte],
            }
        });
        escaped.collect::<Vec<_>>().concat()
    }

    fn mutate(&mut self, body: &mut Vec<u8>) {
        let at = self.random.below(body.len() + 1);
        let end = (at + 1 + self.random.below(12)).min(body.len());
        match self.random.below(8) {
            0..3 => {
                body.splice(at..at, self.random.pick(&BITS).iter().copied());
            }
            3 => {
                body.splice(at..end, self.random.pick(&BITS).iter().copied());
            }
            4 => {
                body.drain(at..end);
            }
            5 => {
                let again = body[at..end].to_vec();
                let to = self.random.below(body.len() + 1);
                body.splice(to..to, again);
            }
            6 => body.insert(at, self.random.byte()),
            _ => {
                if let Some(at) = self.random.place_in(body) {
                    body[at] = self.random.byte();
                }
            }
        }
    }
}

impl Iterator for Bodies {
    type Item = Vec<u8>;

    fn next(&mut self) -> Option<Vec<u8>> {
        Some(self.body())
    }
}
