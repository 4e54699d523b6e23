use proptest::prelude::*;

use crate::downstream::hpack::*;

const NOTHING: Found = Found { fragment: false, expect: false };
const FRAGMENT: Found = Found { fragment: true, expect: false };

fn plain(text: &[u8]) -> Vec<u8> {
    let mut out = encoded(text.len(), 7, 0);
    out.extend_from_slice(text);
    out
}

/// RFC 7541 §5.2, by the codes as they are defined.
fn coded(text: &[u8]) -> Vec<u8> {
    let (mut bits, mut bytes) = (String::new(), Vec::new());
    for byte in text {
        let length = usize::from(LENGTHS[usize::from(*byte)]);
        let Codes { first, symbols } = CODES.of_length[length];
        let same = &CODES.symbols[symbols.0..symbols.0 + symbols.1];
        let at = same.iter().position(|symbol| *symbol == u16::from(*byte)).unwrap();
        bits += &format!("{:0length$b}", first + at as u64);
    }
    while bits.len() % 8 > 0 {
        bits.push('1');
    }
    for byte in bits.as_bytes().chunks(8) {
        bytes.push(u8::from_str_radix(std::str::from_utf8(byte).unwrap(), 2).unwrap());
    }
    let mut out = encoded(bytes.len(), 7, 0x80);
    out.extend(bytes);
    out
}

fn encoded(value: usize, prefix: u32, flags: u8) -> Vec<u8> {
    let most = (1 << prefix) - 1;
    if value < most {
        return vec![flags | value as u8];
    }
    let (mut out, mut rest) = (vec![flags | most as u8], value - most);
    while rest >= 0x80 {
        out.push(rest as u8 | 0x80);
        rest >>= 7;
    }
    out.push(rest as u8);
    out
}

fn read(text: &[u8]) -> Result<Vec<u8>, Invalid> {
    let mut rest = text;
    let mut out = Vec::new();
    string(&mut rest)?.read(|byte| out.push(byte))?;
    assert!(rest.is_empty());
    Ok(out)
}

fn hex(text: &str) -> Vec<u8> {
    let digits: Vec<u8> = text.bytes().filter(u8::is_ascii_hexdigit).collect();
    let byte = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap();
    digits.chunks(2).map(byte).collect()
}

#[test]
fn the_code_is_that_of_the_rfc() {
    // Appendix C.4 and C.6.
    for (bytes, text) in [
        ("8c f1e3c2e5f23a6ba0ab90f4ff", "www.example.com"),
        ("86 a8eb10649cbf", "no-cache"),
        ("88 25a849e95ba97d7f", "custom-key"),
        ("89 25a849e95bb8e8b4bf", "custom-value"),
        ("96 d07abe941054d444a8200595040b8166e082a62d1bff", "Mon, 21 Oct 2013 20:13:21 GMT"),
        ("91 9d29ad171863c78f0b97c8e9ae82ae43d3", "https://www.example.com"),
        (
            "ad 94e7821dd7f2e6c7b335dfdfcd5b3960d5af27087f3672c1ab270fb5291f9587316065c003ed4ee5b1063d5007",
            "foo=ASDJKHQKBZXOQWEOPIUAXQWEOIU; max-age=3600; version=1",
        ),
    ] {
        let bytes = hex(bytes);
        assert_eq!(read(&bytes).unwrap(), text.as_bytes());
        assert_eq!(coded(text.as_bytes()), bytes);
    }
    for bad in ["81 00", "82 ffff", "82 f8ff", "84 ffffffff", "81 ", "85 ffffffffff"] {
        assert_eq!(read(&hex(bad)), Err(Invalid), "{bad}");
    }
}

#[test]
fn the_requests_of_the_rfc_leave_the_table_that_it_shows() {
    // Appendix C.4: sizes 57, 110, 164.
    let mut fields = HeaderTable::default();
    for (block, size, entries) in [
        ("8286 8441 8cf1 e3c2 e5f2 3a6b a0ab 90f4 ff", 57, 1),
        ("8286 84be 5886 a8eb 1064 9cbf", 110, 2),
        ("8287 85bf 4088 25a8 49e9 5ba9 7d7f 8925 a849 e95b b8e8 b4bf", 164, 3),
    ] {
        assert_eq!(fields.read(&hex(block)), Ok(NOTHING));
        assert_eq!((fields.size, fields.table.len()), (size, entries));
    }
    // Down to less than one entry, and up again.
    assert_eq!(fields.read(&[encoded(60, 5, 0x20), encoded(4096, 5, 0x20)].concat()), Ok(NOTHING));
    assert_eq!((fields.size, fields.table.len()), (54, 1));
    assert_eq!(fields.read(&encoded(4097, 5, 0x20)), Err(Invalid));
}

#[test]
fn the_table_holds_as_much_as_its_client_says_and_no_more() {
    let kept = |length: usize| [vec![0x40], plain(&vec![b'n'; length]), plain(&vec![b'v'; length])].concat();
    let mut fields = HeaderTable::default();
    // Two entries of 42 bytes fill it.
    for (block, size, entries) in [
        (encoded(84, 5, 0x20), 0, 0),
        (kept(5), 42, 1),
        (kept(5), 84, 2),
        (kept(5), 84, 2),
        (kept(4), 82, 2),
        // What does not fit at all empties it (RFC 7541 §4.4).
        (kept(27), 0, 0),
        (kept(26), 84, 1),
    ] {
        assert_eq!(fields.read(&block), Ok(NOTHING));
        assert_eq!((fields.size, fields.table.len()), (size, entries));
    }
}

#[test]
fn a_fragment_is_found_in_every_way_to_write_a_path() {
    for text in [plain, coded] {
        for (flags, prefix) in [(0x40, 6), (0, 4), (0x10, 4)] {
            for value in [b"/a#b".as_slice(), b"#", b"/a?x=1#"] {
                // By both entries of the static table, by a name that is spelt out, and by one of the dynamic table.
                for index in [4, 5] {
                    let block = [encoded(index, prefix, flags), text(value)].concat();
                    assert_eq!(HeaderTable::default().read(&block), Ok(FRAGMENT));
                }
                let block = [encoded(0, prefix, flags), text(b":path"), text(value)].concat();
                assert_eq!(HeaderTable::default().read(&block), Ok(FRAGMENT));
                let mut fields = HeaderTable::default();
                let kept = [encoded(4, 6, 0x40), text(b"/kept")].concat();
                assert_eq!(fields.read(&kept), Ok(NOTHING));
                let other = [encoded(0, 6, 0x40), text(b"x-other"), text(b"#")].concat();
                assert_eq!(fields.read(&other), Ok(NOTHING));
                let by_name = |index| [encoded(index, prefix, flags), text(value)].concat();
                assert_eq!(fields.read(&by_name(63)), Ok(FRAGMENT));
                assert_eq!(HeaderTable::default().read(&by_name(62)), Err(Invalid));
            }
            for name in [b":pat".as_slice(), b":paths", b":Path", b"path", b"", b"x-path"] {
                let block = [encoded(0, prefix, flags), text(name), text(b"/a#b")].concat();
                assert_eq!(HeaderTable::default().read(&block), Ok(NOTHING));
            }
        }
    }
    for cut in [&[0x04, 5, b'/'][..], &[0x04], &[0x7F, 0xFF, 0xFF, 0xFF, 0xFF, 0x01], &[0x40, 0x7F], &[0x0F]]
    {
        assert_eq!(HeaderTable::default().read(cut), Err(Invalid));
    }
}

#[test]
fn an_expectation_is_found_in_every_way_to_write_one() {
    let found = Found { fragment: false, expect: true };
    assert_eq!(STATIC_NAMES[EXPECT_INDEX - 1], EXPECT);
    for text in [plain, coded] {
        for (flags, prefix) in [(0x40, 6), (0, 4), (0x10, 4)] {
            let mut fields = HeaderTable::default();
            let by_index = [encoded(EXPECT_INDEX, prefix, flags), text(b"100-continue")].concat();
            assert_eq!(fields.read(&by_index), Ok(found));
            let by_name = [encoded(0, prefix, flags), text(b"expect"), text(b"100-continue")].concat();
            assert_eq!(fields.read(&by_name), Ok(found));
            // What is kept in the table is repeated by its place there, behind one that came later.
            let other = [encoded(0, 6, 0x40), text(b"x-other"), text(b"y")].concat();
            assert_eq!(fields.read(&other), Ok(NOTHING));
            let is_kept = flags == 0x40;
            assert_eq!(fields.read(&encoded(62, 7, 0x80)), Ok(NOTHING));
            assert_eq!(fields.read(&encoded(63, 7, 0x80)).map(|found| found.expect), Ok(is_kept));
            if is_kept {
                let by_name = [encoded(64, prefix, flags), text(b"more")].concat();
                assert_eq!(fields.read(&by_name), Ok(found));
            }
            for name in [b"expec".as_slice(), b"expects", b"Expect", b"expect-ct", b"x-expect", b""] {
                let block = [encoded(0, prefix, flags), text(name), text(b"100-continue")].concat();
                assert_eq!(HeaderTable::default().read(&block), Ok(NOTHING));
            }
        }
    }
    assert_eq!(HeaderTable::default().read(&encoded(EXPECT_INDEX, 7, 0x80)), Ok(found));
    for index in [0, 1, 34, 36, 61, 62, 100, 1 << 20] {
        assert_eq!(HeaderTable::default().read(&encoded(index, 7, 0x80)), Ok(NOTHING), "{index}");
    }
}

proptest! {
    #[test]
    fn every_text_comes_back_from_its_code(text in prop::collection::vec(any::<u8>(), 0..200)) {
        prop_assert_eq!(read(&coded(&text)), Ok(text.clone()));
        prop_assert_eq!(read(&plain(&text)), Ok(text));
    }

    #[test]
    fn nothing_breaks_it(block in prop::collection::vec(any::<u8>(), 0..100), more in prop::collection::vec(any::<u8>(), 0..100)) {
        let mut fields = HeaderTable::default();
        for block in [block, more] {
            let _ = fields.read(&block);
            prop_assert!(fields.size <= MOST_TABLE && fields.table.len() <= MOST_TABLE / ENTRY);
            prop_assert_eq!(fields.size, fields.table.iter().map(|entry| entry.size).sum::<usize>());
        }
    }
}
