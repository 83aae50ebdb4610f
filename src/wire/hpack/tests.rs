//! Header blocks as the standard writes them, and what is found in them.

use super::*;

fn plain(text: &str) -> Vec<u8> {
    [&[text.len() as u8], text.as_bytes()].concat()
}

const NOTHING: Block = Block { has_pseudo_field: false, is_to_be_repaired: false };
const PSEUDO: Block = Block { has_pseudo_field: true, is_to_be_repaired: false };
const ODD: Block = Block { has_pseudo_field: true, is_to_be_repaired: true };

/// The requests of RFC 7541 appendix C.4, the later ones of which refer to fields of those before.
#[test]
fn the_requests_of_the_standard_are_read() {
    let mut decoder = Decoder::default();
    for (block, size) in [
        (&b"\x82\x86\x84\x41\x8c\xf1\xe3\xc2\xe5\xf2\x3a\x6b\xa0\xab\x90\xf4\xff"[..], 57),
        (b"\x82\x86\x84\xbe\x58\x86\xa8\xeb\x10\x64\x9c\xbf", 110),
        (b"\x82\x87\x85\xbf\x40\x88\x25\xa8\x49\xe9\x5b\xa9\x7d\x7f\x89\x25\xa8\x49\xe9\x5b\xb8\xe8\xb4\xbf", 164),
    ] {
        assert_eq!((decoder.read(block), decoder.size), (Ok(PSEUDO), size));
    }
}

#[test]
fn what_would_be_repaired_is_found_wherever_it_stands() {
    let literal = |name: &str, value: &str| [vec![0x40], plain(name), plain(value)].concat();
    for (block, found) in [
        (literal("x", "y#z"), NOTHING),
        (literal(":method", "#"), PSEUDO),
        (literal(":path", "/a?b"), PSEUDO),
        (literal(":path", "/a#b"), ODD),
        ([vec![0x04], plain("/#")].concat(), ODD),
        ([vec![0x14], plain("#")].concat(), ODD),
        // `/#` by Huffman's code.
        (vec![0x44, 0x83, 0b0110_0011, 0b1111_1110, 0b1011_1111], ODD),
        (literal(":scheme", "HTTPS"), PSEUDO),
        (literal(":scheme", "ftp"), ODD),
        ([vec![0x46], plain("https2")].concat(), ODD),
    ] {
        let mut decoder = Decoder::default();
        assert_eq!(decoder.read(&block), Ok(found), "{}", block.escape_ascii());
        // What was kept is found again by its number.
        if block[0] & 0x40 != 0 {
            assert_eq!(decoder.read(&[0x80 | 62]), Ok(found), "{}", block.escape_ascii());
        }
    }
}

#[test]
fn the_oldest_fields_make_room_for_the_newest() {
    let mut decoder = Decoder::default();
    let kept = |name: &str, length: usize| {
        // A length of 127 or more takes further bytes.
        let rest = length - 127;
        let digits = [127, 0x80 | (rest % 128) as u8, (rest / 128) as u8];
        [vec![0x40], plain(name), digits.to_vec(), vec![b'a'; length]].concat()
    };
    let path = [vec![0x44], plain("/#")].concat();
    let (newest, oldest) = ([0x80 | 62], [0x80 | 63]);
    assert_eq!(decoder.read(&path), Ok(ODD));
    // With 39 bytes for the path, 4057 are left.
    assert_eq!(decoder.read(&kept("x", 4057 - ENTRY - 1)), Ok(NOTHING));
    assert_eq!((decoder.size, decoder.read(&oldest)), (MAX_TABLE, Ok(ODD)));
    assert_eq!(decoder.read(&[vec![0x40], plain("x"), plain("")].concat()), Ok(NOTHING));
    assert_eq!((decoder.read(&newest), decoder.read(&[0x80 | 64])), (Ok(NOTHING), Err(BrokenBlock)));
    // One that is larger than the table empties it.
    assert_eq!(decoder.read(&kept("x", 5000)), Ok(NOTHING));
    assert_eq!((decoder.size, decoder.read(&newest)), (0, Err(BrokenBlock)));
    // And so does a table without room.
    assert_eq!((decoder.read(&path), decoder.read(&[0x20])), (Ok(ODD), Ok(NOTHING)));
    assert_eq!((decoder.read(&path), decoder.size), (Ok(ODD), 0));
}

#[test]
fn what_is_no_header_block_is_broken() {
    for block in [
        &b"\x80"[..],
        b"\xbe",
        b"\x40",
        b"\x40\x01",
        b"\x40\x01x\x02y",
        b"\x7f",
        b"\x7f\xff\xff\xff\xff\xff\x01",
        b"\x3f\xe2\x1f",
        b"\x40\x81",
    ] {
        assert_eq!(Decoder::default().read(block), Err(BrokenBlock), "{}", block.escape_ascii());
    }
}
