//! Whatever the gateway lets through, its readers read alike: random JSON texts, and nearly JSON texts, are read by the
//! gateway, by serde, by Python and by Go, which takes keys in any letter case.
//!
//! `tests/readers/run.sh` reads a million of them; `SLUICEGATE_TEXTS` says how many, `SLUICEGATE_SEED` which. Go may be
//! missing: then this says so, and goes without that reader.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    unreachable_pub,
    reason = "helpers of tests fail as tests do"
)]

use std::{
    collections::BTreeMap,
    env, fs,
    io::{BufRead, BufReader, Write},
    path::{Path, PathBuf},
    process::{Child, ChildStdin, Command, Stdio},
    thread,
};

use serde::{
    Deserialize,
    de::{Deserializer, MapAccess, Visitor},
};
use serde_json::value::RawValue;
use sluicegate::mcp::{
    message::{Id, Message, MessageKind, Part},
    scan::Scan,
};
use test_support::{decisive_keys, spellings};

/// What the keys are that decide where a message goes, by their paths.
type Reading = BTreeMap<String, String>;

/// Texts that go to the readers at once.
const BATCH: usize = 2_000;

/// As in reader.py and reader.go.
const KEYS: [(&str, &[&str]); 5] = [
    ("", decisive_keys::TOP),
    ("params", decisive_keys::PARAMS),
    ("params._meta", decisive_keys::META),
    ("params.ref", decisive_keys::REFERENCE),
    ("params.notifications", decisive_keys::FILTER),
];

#[test]
fn what_passes_is_read_alike_by_serde_python_and_go() {
    let number = |name: &str, default| env::var(name).map_or(default, |it| it.parse().expect(name));
    let (texts, seed) = (number("SLUICEGATE_TEXTS", 30_000), number("SLUICEGATE_SEED", 1));
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/readers");
    let mut readers = vec![Reader::start("Python", Command::new("python3").arg(folder.join("reader.py")))];
    match go_reader(&folder) {
        Some(path) => readers.push(Reader::start("Go", &mut Command::new(path))),
        // Past the capture of tests: who runs them is to see it.
        None => drop(writeln!(
            std::io::stderr(),
            "readers: no Go on this machine, so Go's reading is NOT compared"
        )),
    }
    let mut random = Random::new(seed);
    let (mut read, mut passed) = (0, 0);
    while read < texts {
        let count = BATCH.min((texts - read) as usize);
        let batch: Vec<Vec<u8>> = (0..count).map(|_| random.text()).collect();
        read += count as u64;
        let passing: Vec<_> =
            batch.into_iter().filter_map(|text| Some((passes(&mut random, &text)?, text))).collect();
        passed += passing.len();
        let own: Vec<Reading> = passing.iter().map(|(_, text)| by_serde(text)).collect();
        for ((gate, text), own) in passing.iter().zip(&own) {
            for (path, what) in gate {
                assert_eq!(own.get(path), Some(what), "the gateway and serde, {path}: {}", shown(text));
            }
        }
        for reader in &mut readers {
            let readings = reader.read(passing.iter().map(|(_, text)| text.clone()).collect());
            for (((_, text), own), mut reading) in passing.iter().zip(&own).zip(readings) {
                reading.as_mut().map(loosen);
                assert_eq!(Some(own), reading.as_ref(), "serde and {}: {}", reader.name, shown(text));
            }
        }
    }
    // Else the comparison says nothing.
    assert!(passed as u64 > texts / 5, "{passed} of {texts} pass");
    let names: Vec<_> = readers.iter().map(|reader| reader.name).collect();
    println!("{passed} of {texts} texts pass, and are read alike by serde and {}", names.join(" and "));
}

fn shown(text: &[u8]) -> String {
    text.escape_ascii().to_string()
}

/// Go's reader, built; `None` if there is no Go.
fn go_reader(folder: &Path) -> Option<PathBuf> {
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).join("reader");
    let go = Command::new("go").arg("version").stdout(Stdio::null()).stderr(Stdio::null()).status();
    go.ok().filter(|status| status.success())?;
    fs::create_dir_all(target.parent()?).unwrap();
    let source = folder.join("reader.go");
    let built = Command::new("go").arg("build").arg("-o").arg(&target).arg(source).status().unwrap();
    assert!(built.success(), "reader.go does not build");
    Some(target)
}

/// A reader in another language.
struct Reader {
    name: &'static str,
    child: Child,
    to: Option<ChildStdin>,
    from: BufReader<std::process::ChildStdout>,
}

impl Reader {
    fn start(name: &'static str, command: &mut Command) -> Self {
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect(name);
        let (to, from) = (child.stdin.take(), BufReader::new(child.stdout.take().unwrap()));
        Self { name, child, to, from }
    }

    fn read(&mut self, texts: Vec<Vec<u8>>) -> Vec<Option<Reading>> {
        let count = texts.len();
        let mut to = self.to.take().unwrap();
        let writer = thread::spawn(move || {
            let mut all = Vec::new();
            for text in texts {
                all.extend_from_slice(format!("{}\n", text.len()).as_bytes());
                all.extend_from_slice(&text);
            }
            to.write_all(&all).unwrap();
            to
        });
        let readings = (0..count).map(|_| {
            let mut line = String::new();
            self.from.read_line(&mut line).unwrap();
            serde_json::from_str(&line).unwrap_or_else(|e| panic!("{}: {e} in {line:?}", self.name))
        });
        let readings = readings.collect();
        self.to = Some(writer.join().unwrap());
        readings
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        // It ends with its input, unless the test has failed.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What the gateway reads, if it lets the text through: as a whole and as it streams by.
fn passes(random: &mut Random, text: &[u8]) -> Option<Reading> {
    let message = Message::parse(text.to_vec().into());
    let mut scan = Scan::default();
    let cut = random.below(text.len() + 1);
    let scanned = scan.push(&text[..cut]).and_then(|()| scan.push(&text[cut..])).and_then(|()| scan.finish());
    // Of two reasons, the first that is met depends on the pieces.
    assert_eq!(scanned.is_err(), message.is_err(), "{}", shown(text));
    let message = message.ok()?;
    assert_eq!(scan.method().unwrap_or_default(), message.method());
    let mut found = Reading::new();
    let mut note = |path: &str, what: Option<String>| {
        found.extend(what.map(|what| (path.to_owned(), what)));
    };
    let id = |id: &Id| match id {
        Id::Number(number) => format!("number {number}"),
        Id::String(text) => format!("text {text}"),
    };
    note("id", message.id().map(id));
    note("method", (message.kind() != MessageKind::Response).then(|| format!("text {}", message.method())));
    let token = if message.kind() == MessageKind::Request {
        "params._meta.progressToken"
    } else {
        "params.progressToken"
    };
    note(token, message.progress_token().map(id));
    note("params.requestId", message.request_id().map(id));
    note("params._meta.io.modelcontextprotocol/subscriptionId", message.subscription_id().map(id));
    let version = message.version().map(|version| format!("text {version}"));
    note("params._meta.io.modelcontextprotocol/protocolVersion", version);
    if matches!(message.method(), "tools/call" | "prompts/get") {
        note("params.name", message.name().map(|name| format!("text {name}")));
    }
    for (part, path) in [(Part::Params, "params"), (Part::Meta, "params._meta"), (Part::Result, "result")] {
        note(path, message.part(part).map(what));
    }
    loosen(&mut found);
    Some(found)
}

/// All members of an object, also those that are there twice.
struct Members<'a>(Vec<(String, &'a RawValue)>);

impl<'de: 'a, 'a> Deserialize<'de> for Members<'a> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Object;
        impl<'de> Visitor<'de> for Object {
            type Value = Members<'de>;
            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("an object")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Members<'de>, A::Error> {
                let mut members = Vec::new();
                while let Some(member) = map.next_entry()? {
                    members.push(member);
                }
                Ok(Members(members))
            }
        }
        from.deserialize_map(Object)
    }
}

/// What serde reads; it must read what the gateway lets through.
fn by_serde(text: &[u8]) -> Reading {
    let text = std::str::from_utf8(text).unwrap();
    let mut found = Reading::new();
    for (place, keys) in KEYS {
        let mut here = text;
        let is_there = place.split('.').filter(|step| !step.is_empty()).all(|step| {
            let Members(members) = serde_json::from_str(here).unwrap_or_else(|e| panic!("{e}: {here}"));
            let next = members.iter().find(|(key, _)| key == step).map(|(_, value)| value.get());
            here = next.filter(|next| next.starts_with('{')).unwrap_or_default();
            !here.is_empty()
        });
        if !is_there {
            continue;
        }
        let Members(members) = serde_json::from_str(here).unwrap_or_else(|e| panic!("{e}: {here}"));
        for key in keys {
            let mut of = members.iter().filter(|(name, _)| name == key);
            if let Some((_, value)) = of.next() {
                let path = if place.is_empty() { (*key).to_owned() } else { format!("{place}.{key}") };
                found.insert(path, what(value.get()));
            }
            assert!(of.next().is_none(), "{key} comes twice in {text}");
        }
    }
    loosen(&mut found);
    found
}

/// What a value is, as far as it counts.
fn what(value: &str) -> String {
    match value.as_bytes()[0] {
        b't' | b'f' => "bool".into(),
        b'n' => "null".into(),
        b'{' => "object".into(),
        b'[' => "array".into(),
        b'"' => format!("text {}", serde_json::from_str(value).unwrap_or_else(|_| value.to_owned())),
        _ => match value.parse::<i64>() {
            Ok(number) if number.unsigned_abs() < 1 << 53 => format!("number {number}"),
            _ => "number".into(),
        },
    }
}

/// Where a string says nothing that the gateway decides on, it is enough that it is one.
fn loosen(reading: &mut Reading) {
    const LOOSE: [&str; 14] = [
        "result",
        "error",
        "params.arguments",
        "params.ref",
        "params.notifications",
        "params.capabilities",
        "params.clientInfo",
        "params._meta.io.modelcontextprotocol/clientCapabilities",
        "params._meta.io.modelcontextprotocol/clientInfo",
        "params._meta.io.modelcontextprotocol/related-task",
        "params.notifications.toolsListChanged",
        "params.notifications.promptsListChanged",
        "params.notifications.resourcesListChanged",
        "params.notifications.resourceSubscriptions",
    ];
    for path in LOOSE {
        if let Some(what) = reading.get_mut(path).filter(|what| what.starts_with("text ")) {
            "text".clone_into(what);
        }
    }
}

/// Makes texts, by xorshift64*.
struct Random {
    state: u64,
    /// Other ways to write each key, by place and key.
    spellings: Vec<Vec<Vec<String>>>,
}

impl Random {
    fn new(seed: u64) -> Self {
        let of_place =
            |(_, keys): &(&str, &[&str])| keys.iter().map(|key| spellings::spellings(key)).collect();
        Self {
            state: seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1,
            spellings: KEYS.iter().map(of_place).collect(),
        }
    }

    fn next(&mut self) -> u64 {
        self.state ^= self.state >> 12;
        self.state ^= self.state << 25;
        self.state ^= self.state >> 27;
        self.state.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 16
    }

    fn below(&mut self, most: usize) -> usize {
        (self.next() % most as u64) as usize
    }

    fn once_in(&mut self, times: usize) -> bool {
        self.below(times) == 0
    }

    fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.below(from.len())]
    }

    fn text(&mut self) -> Vec<u8> {
        let mut text = self.message().into_bytes();
        if self.once_in(12) {
            // Noise: a byte more, less, or another.
            let at = self.below(text.len());
            let byte = self.pick(b"\"\\{}[],:0-9e.+ \t\n\0\x1f\x7f\xc3\xa9\xed\xef\xbb\xbf\xffnItfu/'N");
            match self.below(3) {
                0 => text.insert(at, byte),
                1 => drop(text.remove(at)),
                _ => text[at] = byte,
            }
        }
        text
    }

    fn message(&mut self) -> String {
        let params = self.params();
        let id = self.id();
        let method = self.pick(&[
            "\"tools/call\"",
            "\"tools\\/call\"",
            "\"x/y\"",
            "\"notifications/cancelled\"",
            "\"notifications/progress\"",
            "\"resources/read\"",
            "\"completion/complete\"",
            "\"ping\"",
        ]);
        let mut members = match self.below(8) {
            0 => vec![("id", id), ("result", self.value(2))],
            1 => vec![("id", id), ("error", self.value(2))],
            2 => vec![("method", method.to_owned()), ("params", params)],
            _ => vec![("id", id), ("method", method.to_owned()), ("params", params)],
        };
        members.push(("jsonrpc", "\"2.0\"".to_owned()));
        if self.once_in(25) {
            let key = self.pick(KEYS[0].1);
            members.push((key, self.value(2)));
        }
        self.object(0, members)
    }

    fn params(&mut self) -> String {
        if self.once_in(20) {
            return self.value(2);
        }
        let mut members = Vec::new();
        if !self.once_in(4) {
            members.push(("_meta", self.members(2)));
        }
        if self.once_in(5) {
            members.push(("ref", self.members(3)));
        }
        if self.once_in(5) {
            members.push(("notifications", self.members(4)));
        }
        for _ in 0..self.below(5) {
            let key = self.pick(KEYS[1].1);
            if members.iter().all(|(known, _)| *known != key) {
                members.push((key, self.scalar(key)));
            }
        }
        self.object(1, members)
    }

    /// An object of some of the keys of a place.
    fn members(&mut self, place: usize) -> String {
        if self.once_in(25) {
            return self.value(1);
        }
        let mut members = Vec::new();
        for key in KEYS[place].1 {
            if self.once_in(2) {
                members.push((*key, self.scalar(key)));
            }
        }
        self.object(place, members)
    }

    /// Most often what belongs to the key.
    fn scalar(&mut self, key: &str) -> String {
        match key {
            _ if self.once_in(15) => self.value(2),
            "progressToken" | "requestId" | "io.modelcontextprotocol/subscriptionId" => self.id(),
            "_meta" | "ref" | "notifications" | "arguments" | "capabilities" => self.value(3),
            _ => self.string(),
        }
    }

    fn id(&mut self) -> String {
        match self.below(12) {
            0 => self.string(),
            1 => self.number(),
            2 => self.pick(&["null", "-0", "1.0", "1e0", "9007199254740993", "{}", "[1]", "true"]).to_owned(),
            _ => (self.next() >> self.below(60)).min((1 << 53) - 1).to_string(),
        }
    }

    fn number(&mut self) -> String {
        let whole = self.next() >> self.below(64);
        match self.below(6) {
            0 => format!("-{whole}"),
            1 => format!("{whole}.{}", self.below(100)),
            2 => format!("{}e{}", whole % 10, self.below(400)),
            3 => format!("{}.0E-{}", whole % 10, self.below(400)),
            4 => "7".repeat(1 + self.below(40)),
            _ => whole.to_string(),
        }
    }

    fn string(&mut self) -> String {
        let mut text = String::from("\"");
        for _ in 0..self.below(8) {
            let piece = match self.below(40) {
                0 => self.pick(&[
                    "\\u0000",
                    "\\ud800",
                    "\\udc00",
                    "\\ud83d\\ude00",
                    "\\ud83d",
                    "\\u0041",
                    "\\u00e9",
                ]),
                1 => self.pick(&["\\n", "\\/", "\\\\", "\\\"", "\\b", "\\t"]),
                2 => self.pick(&["é", "😀", "\u{7f}", "\u{2028}", "\u{feff}"]),
                _ => self.pick(&["a", "b", "/", "7", " ", ":", "{", "]"]),
            };
            text.push_str(piece);
        }
        text + "\""
    }

    fn value(&mut self, depth: usize) -> String {
        match self.below(if depth == 0 { 5 } else { 8 }) {
            0 => self.number(),
            1 => "null".to_owned(),
            2 => self.pick(&["true", "false"]).to_owned(),
            3 | 4 => self.string(),
            5 => {
                let items: Vec<_> = (0..self.below(4)).map(|_| self.value(depth - 1)).collect();
                format!("[{}]", items.join(","))
            }
            _ => {
                let members: Vec<_> = (0..self.below(4))
                    .map(|_| {
                        let key =
                            self.pick(&["id", "Id", "name", "NAME", "x", "_meta", "progressToken", "a", "a"]);
                        (key, self.value(depth - 1))
                    })
                    .collect();
                self.object(usize::MAX, members)
            }
        }
    }

    /// An object; now and then a key that counts at its place is written in another way, or comes twice.
    fn object(&mut self, place: usize, members: Vec<(&str, String)>) -> String {
        let mut texts: Vec<String> = Vec::new();
        for (key, value) in members {
            let mut written = format!("\"{key}\"");
            let keys = KEYS.get(place).map_or(&[][..], |(_, keys)| keys);
            if let Some(at) = keys.iter().position(|known| *known == key)
                && self.once_in(60)
            {
                let count = self.spellings[place][at].len();
                let other = self.below(count);
                written = self.spellings[place][at][other].clone();
                if self.once_in(2) {
                    texts.push(format!("\"{key}\":{value}"));
                }
            }
            let space = self.pick(&["", "", "", " ", "\n\t"]);
            texts.push(format!("{written}{space}:{space}{value}"));
        }
        if self.once_in(6) {
            let value = self.value(1);
            let key = self.pick(&[
                "x",
                "trace",
                "com.example/x",
                "io.modelcontextprotocol/new",
                "caf\\u00e9",
                "ID2",
                "",
            ]);
            texts.push(format!("\"{key}\":{value}"));
        }
        for at in (1..texts.len()).rev() {
            let other = self.below(at + 1);
            texts.swap(at, other);
        }
        format!("{{{}}}", texts.join(self.pick(&[",", " , "])))
    }
}
