//! The command line: words, `--name value`, and `--tls`.

use std::str::FromStr;

use crate::load::{Kind, Options};

const SWITCHES: [&str; 1] = ["tls"];

#[derive(Default)]
pub struct Args {
    words: Vec<String>,
    options: Vec<(String, String)>,
}

impl Args {
    pub fn new(args: impl Iterator<Item = String>) -> Self {
        let mut this = Self::default();
        let mut args = args;
        while let Some(arg) = args.next() {
            match arg.strip_prefix("--") {
                None => this.words.push(arg),
                Some(name) if SWITCHES.contains(&name) => this.options.push((name.to_owned(), String::new())),
                Some(name) => this.options.push((name.to_owned(), args.next().unwrap_or_default())),
            }
        }
        this
    }

    pub fn word(&self, index: usize) -> Option<&str> {
        self.words.get(index).map(String::as_str)
    }

    fn option(&self, name: &str) -> Option<&str> {
        self.options.iter().rev().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    pub fn need<T: FromStr>(&self, name: &str) -> Result<T, String> {
        let value = self.option(name).ok_or(format!("--{name} is missing"))?;
        value.parse().map_err(|_| format!("--{name}: {value:?} is no such value"))
    }

    fn or<T: FromStr>(&self, name: &str, default: T) -> Result<T, String> {
        if self.option(name).is_some() { self.need(name) } else { Ok(default) }
    }

    pub fn load(&self, kind: &str) -> Result<Options, String> {
        let pids = self.option("pid").unwrap_or_default();
        Ok(Options {
            kind: match kind {
                "sse" => Kind::Sse,
                "rpc" => Kind::Rpc,
                "bulk" => Kind::Bulk,
                _ => return Err(format!("{kind:?} is no kind of load")),
            },
            target: self.need("target")?,
            path: self.need("path")?,
            bearer: self.option("bearer").map(str::to_owned),
            conns: self.or("conns", 64)?,
            warm: self.or("warm", 1.0)?,
            secs: self.or("secs", 5.0)?,
            body: self.or("body", 300)?,
            rate: self.or("rate", 0.0)?,
            tls: self.option("tls").is_some(),
            pids: (pids.split(',').filter(|pid| !pid.is_empty()))
                .map(|pid| pid.parse().map_err(|_| format!("--pid: {pid:?} is no process")))
                .collect::<Result<_, _>>()?,
            workload: self.or("workload", String::new())?,
            contender: self.or("contender", String::new())?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_are_read_wherever_they_stand() {
        let line = "load rpc --tls --target 127.0.0.1:1 --path /x --conns 2 --pid 3,4";
        let args = Args::new(line.split(' ').map(str::to_owned));
        assert_eq!(args.word(1), Some("rpc"));
        let load = args.load("rpc").unwrap();
        assert_eq!((load.tls, load.conns, load.pids), (true, 2, vec![3, 4]));
        assert!(args.need::<u16>("path").unwrap_err().contains("--path"));
        assert!(args.load("udp").is_err());
    }
}
