//! A process that is killed while it writes credentials for servers, flows and locks has lost nothing that it acknowledged, and has
//! done nothing twice; and what it could not write while the disk was full, it has not acknowledged.
//!
//! The process is this very binary, asked for the one test that others leave out.

use std::{
    collections::{BTreeMap, BTreeSet},
    env,
    io::{BufRead as _, BufReader, Write as _},
    process::{Child, Stdio},
    sync::Arc,
    thread::JoinHandle,
};

use parking_lot::Mutex;
use rustix::process::{Pid, Resource, Rlimit, getrlimit, kill_process, prlimit};
use sluicegate::identity::login::upstream::NotKept;
use test_support::numbered::from_env;

use super::*;

/// How often they are killed; `SLUICEGATE_KILLS=1000 cargo test --test store_commands killed` is the whole of it.
const KILLS: usize = 3;
/// Processes on one file.
const PROCESSES: usize = 2;
/// Who writes at the same time, in each of them.
const WRITERS: usize = 3;
/// They are killed after so many acknowledgements at most.
const MOST_ACKNOWLEDGED: usize = 60;

/// Variables that name the directory, which of the processes it is, and in which round: what a process that is gone has locked is free
/// in the next one.
const STATE: &str = "STORE_STATE";
const PROCESS: &str = "STORE_PROCESS";
const ROUND: &str = "STORE_ROUND";

/// Flows of one principal.
const MOST_FLOWS: usize = 20;
/// Longer than all rounds are apart.
const LONG: Duration = Duration::from_secs(30 * 24 * 3600);

fn writer(process: usize, writer: usize) -> UpstreamOwner {
    of(&format!("{process}-{writer}"))
}

fn flow(process: usize, number: u64) -> [u8; 32] {
    let mut id = [0; 32];
    id[0] = process as u8;
    id[24..].copy_from_slice(&number.to_be_bytes());
    id
}

fn acknowledge(what: &str) {
    let mut stdout = std::io::stdout().lock();
    // Nobody is there to hear it any more: it ends.
    stdout.write_all(format!("\n{what}\n").as_bytes()).and_then(|()| stdout.flush()).unwrap();
}

fn number(row: Option<&UpstreamRow>) -> u64 {
    row.map_or(0, |row| str::from_utf8(&row.body).unwrap().parse().unwrap())
}

/// What is there one more time. Says which, if it is written.
async fn count_up(logins: &Logins, owner: &UpstreamOwner, server: &str) -> Option<u64> {
    let there = rows(logins).get(owner, server).await.ok()?;
    let next = number(there.as_ref()) + 1;
    match rows(logins).put(row(owner, server, &next.to_string()), there.map(|row| row.version)).await {
        Ok(Ok(_)) => Some(next),
        Ok(Err(other)) => panic!("nobody else may have written: {other:?}"),
        Err(NotKept::Down) => None,
        Err(fault) => panic!("{fault:?}"),
    }
}

#[tokio::test]
#[ignore = "is what the others kill"]
async fn writes_until_it_is_killed() {
    let (Ok(state), Ok(process), Ok(round)) = (env::var(STATE), env::var(PROCESS), env::var(ROUND)) else {
        return;
    };
    let (process, round): (usize, u64) = (process.parse().unwrap(), round.parse().unwrap());
    let logins = Arc::new(open_with(&LoginStore::default(), Path::new(&state)));
    let mut all = tokio::task::JoinSet::new();
    for n in 0..WRITERS {
        let logins = Arc::clone(&logins);
        all.spawn(async move {
            loop {
                match count_up(&logins, &writer(process, n), "db").await {
                    Some(number) => acknowledge(&format!("put {n} {number}")),
                    None => acknowledge("down"),
                }
                tokio::task::yield_now().await;
            }
        });
    }
    let of_flows = Arc::clone(&logins);
    all.spawn(async move {
        let body = || Zeroizing::new(CANARY.as_bytes().to_vec());
        let (principal, ends) = (Principal::User(process.to_string().into()), SystemTime::now() + LONG);
        for n in 0.. {
            let number = round * 1_000_000 + n;
            let id = flow(process, number);
            if rows(&of_flows).begin_flow(id, &principal, body(), ends).await.is_err() {
                continue;
            }
            acknowledge(&format!("begun {number}"));
            if n % 2 == 0 {
                acknowledge(&format!("takes {number}"));
                let one = rows(&of_flows).take_flow(id, SystemTime::now());
                let other = rows(&of_flows).take_flow(id, SystemTime::now());
                let (one, other) = tokio::join!(one, other);
                if let (Ok(one), Ok(other)) = (one, other) {
                    assert!(one.is_some() != other.is_some(), "one of both has it");
                    acknowledge(&format!("taken {number}"));
                }
            }
        }
    });
    all.spawn(async move {
        let everyone = UpstreamOwner::Everyone;
        loop {
            // What was locked in a round before is free.
            let now = SystemTime::now() + Duration::from_secs(60 * round);
            match rows(&logins).lock(&everyone, "shared", now).await {
                Ok(true) => {
                    if let Some(number) = count_up(&logins, &everyone, "shared").await {
                        acknowledge(&format!("shared 0 {number}"));
                    }
                }
                Ok(false) | Err(_) => tokio::task::yield_now().await,
            }
        }
    });
    while let Some(done) = all.join_next().await {
        done.unwrap();
    }
}

/// A process that writes, and what it has acknowledged.
struct Writing {
    child: Child,
    lines: Arc<Mutex<Vec<String>>>,
    reader: Option<JoinHandle<()>>,
}

impl Writing {
    fn start(state: &Path, process: usize, round: usize) -> Self {
        // What is beyond a limit is an error, as on a full disk, and no signal.
        let mut command = Command::new("sh");
        command.args(["-c", r#"trap "" XFSZ; exec "$0" "$@""#]).arg(env::current_exe().unwrap());
        command.args(["--exact", "kills::writes_until_it_is_killed", "--ignored", "--nocapture"]);
        command.env(STATE, state).env(PROCESS, process.to_string()).env(ROUND, round.to_string());
        let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
        let lines = Arc::<Mutex<Vec<String>>>::default();
        let (from, to) = (BufReader::new(child.stdout.take().unwrap()), Arc::clone(&lines));
        let reader = std::thread::spawn(move || {
            // The last line may be cut off: it is none.
            for line in from.lines().map_while(Result::ok) {
                to.lock().push(line);
            }
        });
        Self { child, lines, reader: Some(reader) }
    }

    fn count(&self, begin: &str) -> usize {
        self.lines.lock().iter().filter(|line| line.starts_with(begin)).count()
    }

    fn pid(&self) -> Pid {
        Pid::from_child(&self.child)
    }

    /// All that it had acknowledged.
    fn kill(mut self) -> Vec<String> {
        kill_process(self.pid(), Signal::KILL).unwrap();
        self.child.wait().unwrap();
        self.reader.take().unwrap().join().unwrap();
        std::mem::take(&mut *self.lines.lock())
    }
}

/// A test that fails leaves nothing behind.
impl Drop for Writing {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What was acknowledged, over all rounds.
#[derive(Default)]
struct Acknowledged {
    put: BTreeMap<(usize, usize), u64>,
    shared: BTreeSet<u64>,
    begun: BTreeSet<(usize, u64)>,
    taken: BTreeSet<(usize, u64)>,
    /// They may be taken or not.
    taking: BTreeSet<(usize, u64)>,
}

impl Acknowledged {
    fn add(&mut self, process: usize, lines: &[String]) {
        for line in lines {
            let words: Vec<_> = line.split(' ').collect();
            let number = |at: usize| words[at].parse::<u64>().unwrap();
            match words[0] {
                "put" => {
                    let writer = usize::try_from(number(1)).unwrap();
                    let before = self.put.insert((process, writer), number(2)).unwrap_or_default();
                    assert!(number(2) > before, "{line}: written twice");
                }
                "shared" => assert!(self.shared.insert(number(2)), "{line}: two had the lock"),
                "begun" => drop(self.begun.insert((process, number(1)))),
                "takes" => drop(self.taking.insert((process, number(1)))),
                "taken" => drop(self.taken.insert((process, number(1)))),
                _ => {}
            }
        }
    }

    /// Whether all of that is so in the file.
    async fn check(&mut self, logins: &Logins, why: &str) {
        for ((process, n), last) in &mut self.put {
            let found = number(rows(logins).get(&writer(*process, *n), "db").await.unwrap().as_ref());
            // One more was on its way.
            assert!((*last..=*last + 1).contains(&found), "{why}: {found} after {last}");
            *last = found;
        }
        let found = number(rows(logins).get(&UpstreamOwner::Everyone, "shared").await.unwrap().as_ref());
        let last = self.shared.last().copied().unwrap_or_default();
        assert!((last..=last + 1).contains(&found), "{why}: {found} after {last}");
        if found > last {
            self.shared.insert(found);
        }
        let begun: Vec<_> = std::mem::take(&mut self.begun).into_iter().collect();
        for (at, one) in begun.iter().enumerate() {
            let (process, number) = *one;
            let found = rows(logins).take_flow(flow(process, number), SystemTime::now()).await.unwrap();
            // Of one principal, the oldest of twenty gives way to the next, of which one was on its way.
            let newer = begun[at + 1..].iter().filter(|other| other.0 == process).count() + 1;
            if self.taken.contains(one) {
                assert_eq!(found, None, "{why}: it is taken twice");
            } else if !self.taking.contains(one) && newer < MOST_FLOWS {
                assert!(found.is_some(), "{why}: it is lost");
            }
        }
        self.taken.clear();
        self.taking.clear();
    }
}

#[tokio::test]
async fn processes_that_are_killed_while_they_write_have_lost_nothing_and_done_nothing_twice() {
    let place = Place::new();
    {
        // The row that all of them refresh.
        let logins = place.open();
        rows(&logins).put(row(&UpstreamOwner::Everyone, "shared", "0"), None).await.unwrap().unwrap();
    }
    let mut acknowledged = Acknowledged::default();
    let kills = from_env("SLUICEGATE_KILLS", KILLS);
    for round in 1..=kills {
        let writing: Vec<_> =
            (0..PROCESSES).map(|process| Writing::start(&place.state(), process, round)).collect();
        let mut random = [0; 1];
        getrandom::fill(&mut random).unwrap();
        let enough = if round == 1 { MOST_ACKNOWLEDGED } else { usize::from(random[0]) % MOST_ACKNOWLEDGED };
        until("enough is acknowledged", || {
            writing.iter().map(|one| one.count("put")).sum::<usize>() >= enough
        })
        .await;
        for (process, one) in writing.into_iter().enumerate() {
            acknowledged.add(process, &one.kill());
        }
        let logins = place.open();
        acknowledged.check(&logins, &format!("round {round}")).await;
        assert_eq!(logins.status().borrow().faults, 0);
    }
    let puts: u64 = acknowledged.put.values().sum();
    println!(
        "{kills} kills of {PROCESSES} processes: {puts} writes, {} refreshes",
        acknowledged.shared.len()
    );
    assert!(puts > 0 && !acknowledged.shared.is_empty());
}

#[tokio::test]
async fn what_a_full_disk_does_not_take_is_not_acknowledged_and_it_goes_on_afterwards() {
    let place = Place::new();
    drop(place.open());
    let writing = Writing::start(&place.state(), 0, 1);
    until("it writes", || writing.count("put") >= 5).await;
    let limit = |bytes: Option<u64>| {
        let maximum = getrlimit(Resource::Fsize).maximum;
        prlimit(Some(writing.pid()), Resource::Fsize, Rlimit { current: bytes, maximum }).unwrap();
    };
    limit(Some(1024));
    until("the disk is full", || writing.count("down") >= 3).await;
    let before = writing.count("put");
    limit(None);
    until("it goes on", || writing.count("put") >= before + 5).await;
    let mut acknowledged = Acknowledged::default();
    acknowledged.add(0, &writing.kill());
    acknowledged.check(&place.open(), "after a full disk").await;
}
