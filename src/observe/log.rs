//! The log: one line an event, written by a thread of its own.
//!
//! Writing never blocks a request. A line is formatted on the thread that has something to say, appended to a
//! bounded buffer under a lock that is held for one copy, and written by the log thread in batches: one `write`
//! for everything that gathered in [`BATCH`], which is what keeps an access log cheap. When the reader
//! stalls or the disk is full, lines are dropped and counted, and serving goes on; once lines can be written again, one
//! says how many were dropped.

use std::{
    cell::RefCell,
    collections::VecDeque,
    io::{self, Write},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU8, Ordering},
    },
    thread,
    time::{Duration, SystemTime},
};

use parking_lot::{Condvar, Mutex};
use prometheus::IntCounter;

use crate::config::{Level, LogFormat, is_format};

/// Lines that may wait for the writer before further ones are dropped.
const QUEUE_LINES: usize = 8192;
/// Longest a value may be in a line; the rest is cut. A client chooses paths and peers choose error texts.
pub(super) const VALUE_BYTES: usize = 256;
/// Lines that are kept to be shown, of which none is much longer than what one value may be.
const RECENT_LINES: usize = 500;
const RECENT_LINE_BYTES: usize = 2048;
/// The writer's pause after each write: bounds its wake-ups to 200 a second however many lines come.
const BATCH: Duration = Duration::from_millis(5);
/// How long the end of the process waits for the writer. A reader that takes nothing must not keep it.
const CLOSE_WITHIN: Duration = Duration::from_secs(1);

/// A handle to the log; clones write to the same place.
#[derive(Clone)]
pub struct Log(Arc<Inner>);

struct Inner {
    level: AtomicU8,
    format: LogFormat,
    is_coloured: bool,
    queue: Mutex<Queue>,
    /// Whether `recent` has the last lines.
    keeps_recent: AtomicBool,
    recent: Mutex<VecDeque<Vec<u8>>>,
    wake: Condvar,
    dropped: IntCounter,
    ended: Condvar,
}

#[derive(Default)]
struct Queue {
    bytes: Vec<u8>,
    lines: usize,
    /// Lines that were dropped, and not yet reported.
    dropped_unreported: u64,
    /// The writer waits on the condition variable, and has to be notified.
    writer_waits: bool,
    closed: bool,
    /// The writer has written everything.
    has_ended: bool,
}

impl Log {
    /// Starts the log thread, which writes to `out`; text has colours if `is_coloured` says so. `dropped` counts lines that could
    /// not be written.
    pub fn start(
        level: Level,
        format: LogFormat,
        is_coloured: bool,
        out: Box<dyn Write + Send>,
        dropped: IntCounter,
    ) -> io::Result<Self> {
        Self::start_as("log", level, format, is_coloured, out, dropped)
    }

    /// As [`Log::start`], by a thread of this name.
    pub(super) fn start_as(
        thread_name: &str,
        level: Level,
        format: LogFormat,
        is_coloured: bool,
        out: Box<dyn Write + Send>,
        dropped: IntCounter,
    ) -> io::Result<Self> {
        let inner = Arc::new(Inner {
            level: AtomicU8::new(level as u8),
            format,
            is_coloured: is_coloured && format == LogFormat::Text,
            queue: Mutex::default(),
            keeps_recent: AtomicBool::default(),
            recent: Mutex::default(),
            wake: Condvar::new(),
            dropped,
            ended: Condvar::new(),
        });
        let of_thread = Arc::clone(&inner);
        thread::Builder::new().name(thread_name.into()).spawn(move || {
            of_thread.write_until_closed(out);
            of_thread.queue.lock().has_ended = true;
            of_thread.ended.notify_all();
        })?;
        Ok(Self(inner))
    }

    /// Changes the least severe level that is written.
    pub fn set_level(&self, level: Level) {
        self.0.level.store(level as u8, Ordering::Relaxed);
    }

    /// Whether the last lines are kept, besides being written.
    pub fn keep_recent(&self, keeps: bool) {
        self.0.keeps_recent.store(keeps, Ordering::Relaxed);
        if !keeps {
            *self.0.recent.lock() = VecDeque::new();
        }
    }

    /// The last lines that were kept, the oldest first.
    pub fn recent(&self) -> Vec<Vec<u8>> {
        self.0.recent.lock().iter().cloned().collect()
    }

    /// Begins a line; it is written when [`LogLine::send`] is called.
    pub fn line(&self, level: Level, msg: &'static str) -> LogLine<'_> {
        self.0.line(level, msg)
    }

    /// Begins a line that is written whatever the level is.
    pub(super) fn line_at_any_level(&self, level: Level, msg: &'static str) -> LogLine<'_> {
        self.0.begin(level, msg)
    }

    /// Ends the log thread once it has written what waits. Nobody waits for that. Lines sent later are dropped.
    pub(super) fn end(&self) {
        self.0.queue.lock().closed = true;
        self.0.wake.notify_one();
    }

    /// Writes what waits, for no longer than a second, and ends the log thread. Lines sent later are dropped.
    pub fn close(&self) {
        let mut queue = self.0.queue.lock();
        queue.closed = true;
        self.0.wake.notify_one();
        // A writer that is stuck in a write ends with the process.
        self.0.ended.wait_while_for(&mut queue, |queue| !queue.has_ended, CLOSE_WITHIN);
    }
}

impl Inner {
    fn line(&self, level: Level, msg: &'static str) -> LogLine<'_> {
        match level as u8 >= self.level.load(Ordering::Relaxed) {
            true => self.begin(level, msg),
            false => LogLine { log: None, buf: Vec::new() },
        }
    }

    fn begin(&self, level: Level, msg: &'static str) -> LogLine<'_> {
        let mut line = LogLine { log: Some(self), buf: BUFFER.take() };
        line.begin(self, level, msg);
        line
    }

    fn push(&self, line: &[u8]) {
        if self.keeps_recent.load(Ordering::Relaxed) && line.len() <= RECENT_LINE_BYTES {
            let mut recent = self.recent.lock();
            if recent.len() >= RECENT_LINES {
                recent.pop_front();
            }
            recent.push_back(line.to_vec());
        }
        let mut queue = self.queue.lock();
        if queue.lines >= QUEUE_LINES || queue.closed {
            queue.dropped_unreported += 1;
            drop(queue);
            self.dropped.inc();
            return;
        }
        queue.bytes.extend_from_slice(line);
        queue.lines += 1;
        let wake = std::mem::take(&mut queue.writer_waits);
        drop(queue);
        if wake {
            self.wake.notify_one();
        }
    }

    fn write_until_closed(&self, out: Box<dyn Write + Send>) {
        let mut out = Out { out, is_torn: false };
        // Opens what is opened when it is used. If that fails, the first line fails too.
        let _ = out.out.flush();
        let (mut batch, mut dropped_unreported) = (Vec::new(), 0);
        loop {
            let (lines, closed) = {
                let mut queue = self.queue.lock();
                while queue.lines == 0 && !queue.closed {
                    queue.writer_waits = true;
                    self.wake.wait(&mut queue);
                }
                batch.clear();
                std::mem::swap(&mut batch, &mut queue.bytes);
                dropped_unreported += std::mem::take(&mut queue.dropped_unreported);
                (std::mem::take(&mut queue.lines), queue.closed)
            };
            if out.write(&batch).is_err() {
                // Disk full or pipe gone: the batch is lost, the next may go through.
                self.dropped.inc_by(lines as u64);
                dropped_unreported += lines as u64;
            } else if dropped_unreported > 0 {
                let told = self.line(Level::Warn, "Log lines dropped").int("lines", dropped_unreported).end();
                if out.write(&told).is_ok() {
                    dropped_unreported = 0;
                }
            }
            if closed {
                return;
            }
            thread::sleep(BATCH);
        }
    }
}

/// Where lines go.
struct Out {
    out: Box<dyn Write + Send>,
    /// What was written last ends in the middle of a line.
    is_torn: bool,
}

impl Out {
    /// Writes whole lines. What a write that failed left of one does not spoil the next.
    fn write(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        if self.is_torn {
            self.out.write_all(b"\n")?;
            self.is_torn = false;
        }
        while !bytes.is_empty() {
            match self.out.write(bytes) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(n) => {
                    self.is_torn = bytes[n - 1] != b'\n';
                    bytes = &bytes[n..];
                }
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
        }
        self.out.flush()
    }
}

thread_local! {
    /// The buffer of the last line, kept so that a line costs no allocation.
    static BUFFER: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
    /// The second that was formatted last, since most lines share it with the line before.
    static SECOND: RefCell<(u64, String)> = const { RefCell::new((u64::MAX, String::new())) };
}

/// A line in the making.
#[must_use = "a line is written by `send`"]
pub struct LogLine<'a> {
    /// `None` when the level is off: every call is then a branch and nothing else.
    log: Option<&'a Inner>,
    buf: Vec<u8>,
}

impl LogLine<'_> {
    fn begin(&mut self, log: &Inner, level: Level, msg: &'static str) {
        let (level, colour) = match level {
            Level::Debug => ("DEBUG", "34"),
            Level::Info => ("INFO", "32"),
            Level::Warn => ("WARN", "33"),
            Level::Error => ("ERROR", "31"),
        };
        self.buf.clear();
        match log.format {
            LogFormat::Json => {
                self.buf.extend_from_slice(b"{\"time\":\"");
                write_time(&mut self.buf);
                self.buf.extend_from_slice(b"\",\"level\":\"");
                self.buf.extend_from_slice(level.as_bytes());
                self.buf.extend_from_slice(b"\",\"msg\":\"");
                self.buf.extend_from_slice(msg.as_bytes());
                self.buf.push(b'"');
            }
            LogFormat::Text if log.is_coloured => {
                self.buf.extend_from_slice(b"\x1b[2m");
                write_time(&mut self.buf);
                let _ = write!(self.buf, "\x1b[0m \x1b[{colour}m{level:<5}\x1b[0m {msg}");
            }
            LogFormat::Text => {
                write_time(&mut self.buf);
                let _ = write!(self.buf, " {level:<5} {msg}");
            }
        }
    }

    /// Adds a field whose value `write` appends, if the level is on. On a terminal, keys are faint (ECMA-48, SGR 2).
    fn field(mut self, key: &str, write: impl FnOnce(&mut Vec<u8>)) -> Self {
        let Some(log) = self.log else { return self };
        match log.format {
            // Constants, each of which is one store.
            LogFormat::Json => {
                self.buf.extend_from_slice(b",\"");
                self.buf.extend_from_slice(key.as_bytes());
                self.buf.extend_from_slice(b"\":");
            }
            LogFormat::Text => {
                let is_coloured = log.is_coloured;
                self.buf.extend_from_slice(if is_coloured { b" \x1b[2m" } else { b" " });
                self.buf.extend_from_slice(key.as_bytes());
                self.buf.extend_from_slice(if is_coloured { b"=\x1b[0m" } else { b"=" });
            }
        }
        write(&mut self.buf);
        self
    }

    /// Adds a text; control bytes are escaped and a long one is cut, whoever chose it.
    pub fn str(self, key: &str, value: &str) -> Self {
        self.field(key, |buf| write_json(buf, cut(value, VALUE_BYTES)))
    }

    /// Adds a text of the gateway's own, such as a config problem, which is never cut.
    pub fn text(self, key: &str, value: &str) -> Self {
        self.field(key, |buf| write_json(buf, value))
    }

    /// Adds a text if there is one.
    pub fn opt(self, key: &str, value: Option<&str>) -> Self {
        match value {
            Some(value) => self.str(key, value),
            None => self,
        }
    }

    /// Adds a text that needs no escaping: a method, a socket address.
    pub fn plain(self, key: &str, value: &str) -> Self {
        self.field(key, |buf| {
            buf.push(b'"');
            buf.extend_from_slice(value.as_bytes());
            buf.push(b'"');
        })
    }

    /// Adds such a text if there is one.
    pub fn opt_plain(self, key: &str, value: Option<&str>) -> Self {
        match value {
            Some(value) => self.plain(key, value),
            None => self,
        }
    }

    /// Adds anything whose `Display` needs no escaping: a URL.
    pub fn display(self, key: &str, value: impl std::fmt::Display) -> Self {
        self.field(key, |buf| {
            let _ = write!(buf, "\"{value}\"");
        })
    }

    /// Adds an integer.
    pub fn int(self, key: &str, value: impl itoa::Integer) -> Self {
        self.field(key, |buf| write_int(buf, value))
    }

    /// Adds an integer if there is one.
    pub fn opt_int(self, key: &str, value: Option<i64>) -> Self {
        match value {
            Some(value) => self.int(key, value),
            None => self,
        }
    }

    /// Adds a duration in milliseconds with a tenth.
    pub fn millis(self, key: &str, value: Duration) -> Self {
        let tenths = value.as_micros() / 100;
        self.field(key, |buf| {
            write_int(buf, (tenths / 10) as u64);
            buf.push(b'.');
            buf.push(b'0' + (tenths % 10) as u8);
        })
    }

    /// Hands the line to the writer.
    pub fn send(mut self) {
        if let Some(log) = self.log {
            self.close(log);
            log.push(&self.buf);
            BUFFER.set(std::mem::take(&mut self.buf));
        }
    }

    /// The line; nothing if its level is off.
    fn end(mut self) -> Vec<u8> {
        if let Some(log) = self.log {
            self.close(log);
        }
        self.buf
    }

    fn close(&mut self, log: &Inner) {
        self.buf.extend_from_slice(if log.format == LogFormat::Json { b"}\n" } else { b"\n" });
    }
}

fn write_int(buf: &mut Vec<u8>, value: impl itoa::Integer) {
    buf.extend_from_slice(itoa::Buffer::new().format(value).as_bytes());
}

/// `2026-11-21T10:30:00.123Z`
fn write_time(buf: &mut Vec<u8>) {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    SECOND.with_borrow_mut(|(second, text)| {
        if *second != now.as_secs() {
            let whole = SystemTime::UNIX_EPOCH + Duration::from_secs(now.as_secs());
            *text = humantime::format_rfc3339_seconds(whole).to_string();
            *second = now.as_secs();
        }
        buf.extend_from_slice(&text.as_bytes()[..text.len() - 1]);
    });
    let millis = now.subsec_millis();
    buf.extend_from_slice(&[
        b'.',
        b'0' + (millis / 100) as u8,
        b'0' + (millis / 10 % 10) as u8,
        b'0' + (millis % 10) as u8,
        b'Z',
    ]);
}

/// Bytes that need no escape in a JSON string. Not DEL: see [`write_json`].
const PLAIN: [bool; 256] = {
    let mut plain = [false; 256];
    let mut byte = 0x20;
    while byte < 0x7f {
        plain[byte] = byte != b'"' as usize && byte != b'\\' as usize;
        byte += 1;
    }
    plain
};

/// A JSON string. Most values need no escape, and then it is one scan and one copy.
fn write_json(buf: &mut Vec<u8>, value: &str) {
    // Beyond what JSON asks for: DEL, C1 controls, and what `is_format` says.
    let plain = value.bytes().all(|b| PLAIN[usize::from(b)]);
    buf.push(b'"');
    if plain {
        buf.extend_from_slice(value.as_bytes());
    } else {
        for c in value.chars() {
            match c {
                '"' => buf.extend_from_slice(b"\\\""),
                '\\' => buf.extend_from_slice(b"\\\\"),
                '\n' => buf.extend_from_slice(b"\\n"),
                c if c.is_control() || is_format(c) => {
                    for unit in c.encode_utf16(&mut [0; 2]) {
                        let _ = write!(buf, "\\u{unit:04x}");
                    }
                }
                c => buf.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes()),
            }
        }
    }
    buf.push(b'"');
}

pub(super) fn cut(value: &str, most: usize) -> &str {
    if value.len() <= most {
        return value;
    }
    let mut end = most;
    while !value.is_char_boundary(end) {
        end -= 1;
    }
    &value[..end]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Clone, Default)]
    struct Sink(Arc<Mutex<Vec<u8>>>);

    impl Write for Sink {
        fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
            self.0.lock().extend_from_slice(buf);
            Ok(buf.len())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn counter() -> IntCounter {
        IntCounter::new("dropped", "dropped").unwrap()
    }

    #[test]
    fn colours_are_for_text_and_no_value_brings_in_one_of_its_own() {
        for (format, wanted) in [(LogFormat::Text, true), (LogFormat::Json, false)] {
            let sink = Sink::default();
            let log = Log::start(Level::Info, format, true, Box::new(sink.clone()), counter()).unwrap();
            log.line(Level::Warn, "Refused request").str("path", "/\u{1b}[31mred").send();
            log.close();
            let text = String::from_utf8(sink.0.lock().clone()).unwrap();
            assert_eq!(text.contains("\x1b[33mWARN \x1b[0m Refused request"), wanted, "{text:?}");
            assert!(!text.contains("\x1b[31m") && text.contains("/\\u001b[31mred"), "{text:?}");
        }
    }

    #[test]
    fn a_hostile_value_stays_inside_its_line() {
        let sink = Sink::default();
        let log = Log::start(Level::Info, LogFormat::Json, false, Box::new(sink.clone()), counter()).unwrap();
        let hidden = "\u{1b}\u{85}\u{ad}\u{61c}\u{200b}\u{200e}\u{2028}\u{2029}\u{202e}\u{2060}\u{2069}\u{feff}\u{e0041}";
        let hostile = &format!("a\"b\\c\r\nd[2J{hidden}e\u{7f}é😀");
        log.line(Level::Info, "Refused request").str("path", hostile).int("status", 400).send();
        log.line(Level::Debug, "not written").send();
        log.close();

        let bytes = sink.0.lock().clone();
        let text = String::from_utf8(bytes).unwrap();
        assert_eq!(text.lines().count(), 1);
        assert!(!text.contains(|c| hidden.contains(c)), "{text:?}");
        let line: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(line["path"], **hostile);
        assert_eq!(line["status"], 400);
        assert!(humantime::parse_rfc3339(line["time"].as_str().unwrap()).is_ok());
    }

    /// A writer that never returns until it is let go, like a pipe that nobody reads.
    struct Stalled(std::sync::mpsc::Receiver<()>);

    impl Write for Stalled {
        fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
            let _ = self.0.recv();
            Ok(buf.len())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_stalled_reader_costs_lines_and_never_time() {
        let (let_go, stalled) = std::sync::mpsc::channel();
        let dropped = counter();
        let log =
            Log::start(Level::Info, LogFormat::Json, false, Box::new(Stalled(stalled)), dropped.clone())
                .unwrap();
        for n in 0..3 * QUEUE_LINES as u64 {
            log.line(Level::Info, "Authenticated request").int("n", n).send();
        }
        assert!(dropped.get() >= QUEUE_LINES as u64);
        // Nobody reads, and it ends all the same.
        log.close();
        drop(let_go);
    }

    #[test]
    fn dropped_lines_are_told_of_once_there_is_room_again() {
        /// Takes the beginning of a line, and no more until a signal.
        struct Fickle(Sink, std::sync::mpsc::Receiver<bool>, bool);
        impl Write for Fickle {
            fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
                if self.0.0.lock().is_empty() {
                    return self.0.write(&buf[..8]);
                }
                self.2 = self.2 || self.1.recv().unwrap();
                if self.2 { self.0.write(buf) } else { Err(io::Error::from(io::ErrorKind::StorageFull)) }
            }
            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        let (goes, told) = std::sync::mpsc::channel();
        let (sink, dropped) = (Sink::default(), counter());
        let out = Box::new(Fickle(sink.clone(), told, false));
        let log = Log::start(Level::Info, LogFormat::Json, false, out, dropped.clone()).unwrap();
        log.line(Level::Info, "lost").send();
        goes.send(false).unwrap();
        while dropped.get() == 0 {
            thread::yield_now();
        }
        log.line(Level::Info, "written").send();
        goes.send(true).unwrap();
        log.close();
        let text = String::from_utf8(sink.0.lock().clone()).unwrap();
        let (torn, whole) = text.split_once('\n').unwrap();
        assert_eq!(torn, r#"{"time":"#);
        let lines: Vec<serde_json::Value> =
            whole.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!((&lines[0]["msg"], &lines[1]["msg"]), (&"written".into(), &"Log lines dropped".into()));
        assert_eq!((lines.len(), &lines[1]["lines"]), (2, &1.into()));
    }

    #[test]
    fn a_full_disk_is_counted_and_survived() {
        struct Full;
        impl Write for Full {
            fn write(&mut self, _: &[u8]) -> io::Result<usize> {
                Err(io::Error::from(io::ErrorKind::StorageFull))
            }
            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        let dropped = counter();
        let log = Log::start(Level::Info, LogFormat::Json, false, Box::new(Full), dropped.clone()).unwrap();
        log.line(Level::Info, "one").send();
        log.close();
        assert_eq!(dropped.get(), 1);
    }
}
