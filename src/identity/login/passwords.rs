//! Passwords: how they are hashed, and the threads that compare them.
//!
//! A hash takes 20 MiB and tens of milliseconds, so none is made on a thread that serves. Two are made at a time, and a bounded number
//! wait, so that a flood of logins takes no more memory and processor than that. Networks have their turns, so that one that sends
//! many guesses keeps nobody else waiting.

use std::{
    collections::{HashMap, VecDeque},
    sync::{Arc, OnceLock},
    thread,
};

use argon2::{Algorithm, Argon2, Block, Params, PasswordHash, PasswordHasher as _, Version};
use parking_lot::{Condvar, Mutex};
use subtle::ConstantTimeEq as _;
use tokio::sync::oneshot;
use zeroize::Zeroizing;

use crate::{ledger::AddressBlock, secret::Secret};

/// Threads that compare passwords.
const THREADS: usize = 2;
/// Comparisons that run or wait before an address that has one already is refused.
const COMMON: usize = THREADS + 16;
/// Comparisons that run or wait in all: of those, an address that has none yet may always have one, so that a few addresses do not
/// keep the others out. Beyond them, one that waits gives way, of the network that has most of them.
const MOST: usize = 256;
/// Comparisons of one address that run or wait.
const OF_ONE_ADDRESS: u8 = 4;

/// No hash could be made: the system has no randomness to give, or no memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NoHash;

/// A new hash of `password` in the PHC format, with a salt of its own: argon2id with 19 MiB, two passes and one lane, as OWASP
/// asks for.
pub fn hash(password: &Secret) -> Result<Secret, NoHash> {
    let mut salt = [0; 16];
    getrandom::fill(&mut salt).map_err(|_| NoHash)?;
    let hashed = Argon2::default().hash_password_with_salt(password.expose().as_bytes(), &salt);
    Ok(Secret::new(hashed.map_err(|_| NoHash)?.to_string()))
}

/// Whether `hash` is one of `password`. It takes what the hash says, in `memory`, which grows if it has to.
fn is_of(password: &Secret, hash: &Secret, memory: &mut Vec<Block>) -> bool {
    computed(password, hash, memory).unwrap_or_default()
}

fn computed(password: &Secret, hash: &Secret, memory: &mut Vec<Block>) -> Option<bool> {
    let phc = PasswordHash::new(hash.expose()).ok()?;
    let algorithm = Algorithm::try_from(phc.algorithm.as_str()).ok()?;
    let version = Version::try_from(phc.version?).ok()?;
    let params = Params::try_from(&phc).ok()?;
    let (salt, wanted) = (phc.salt?, phc.hash?);
    let blocks = params.block_count();
    if memory.len() < blocks {
        // What is there is given back before.
        drop(std::mem::take(memory));
        memory.resize(blocks, Block::new());
    }
    let mut found = Zeroizing::new(vec![0; wanted.as_bytes().len()]);
    Argon2::new(algorithm, version, params)
        .hash_password_into_with_memory(
            password.expose().as_bytes(),
            salt.as_ref(),
            &mut found,
            &mut memory[..blocks],
        )
        .ok()?;
    Some(found.ct_eq(wanted.as_bytes()).into())
}

/// Why a password is not compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Busy {
    /// As many wait as may, or it waited and gave way to another.
    Full,
    /// As many of this address wait as may.
    Address,
}

/// A password to be compared with a hash.
struct Job {
    password: Secret,
    hash: Secret,
    answer: oneshot::Sender<bool>,
    place: Place,
}

/// What addresses have running and waiting.
type Places = Mutex<HashMap<AddressBlock, u8>>;

/// A place of an address among the comparisons, until it is dropped.
pub struct Place(Arc<Places>, AddressBlock);

impl Place {
    fn take(places: &Arc<Places>, address: AddressBlock) -> Result<Self, Busy> {
        let mut taken = places.lock();
        let all: usize = taken.values().map(|of_address| usize::from(*of_address)).sum();
        let of_address = taken.get(&address).copied().unwrap_or_default();
        if of_address >= OF_ONE_ADDRESS {
            return Err(Busy::Address);
        }
        if all >= if of_address == 0 { MOST } else { COMMON } {
            return Err(Busy::Full);
        }
        taken.insert(address, of_address + 1);
        Ok(Self(Arc::clone(places), address))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut taken = self.0.lock();
        if let Some(of_address) = taken.get_mut(&self.1) {
            *of_address -= 1;
            if *of_address == 0 {
                taken.remove(&self.1);
            }
        }
    }
}

/// What waits for a thread.
#[derive(Default)]
struct Queue {
    jobs: Mutex<Jobs>,
    comes: Condvar,
}

#[derive(Default)]
struct Jobs {
    /// Those of each network, the oldest first. Networks have their turns in this order: one that has many waits for itself, and
    /// others not for it.
    waiting: VecDeque<(AddressBlock, VecDeque<Job>)>,
    is_closed: bool,
}

impl Jobs {
    fn push(&mut self, job: Job) {
        let network = job.place.1.network();
        match self.waiting.iter_mut().find(|(of, _)| *of == network) {
            Some((_, jobs)) => jobs.push_back(job),
            None => self.waiting.push_back((network, VecDeque::from([job]))),
        }
    }

    fn pop(&mut self) -> Option<Job> {
        let (network, mut jobs) = self.waiting.pop_front()?;
        let next = jobs.pop_front();
        if !jobs.is_empty() {
            self.waiting.push_back((network, jobs));
        }
        next
    }

    fn all(&self) -> impl Iterator<Item = &Job> {
        self.waiting.iter().flat_map(|(_, jobs)| jobs)
    }
}

impl Queue {
    /// The next one; waits for it. `None` at the end.
    fn next(&self) -> Option<Job> {
        let mut jobs = self.jobs.lock();
        while jobs.waiting.is_empty() && !jobs.is_closed {
            self.comes.wait(&mut jobs);
        }
        jobs.pop()
    }

    /// Takes out the newest one of those that give way to this address.
    fn give_way(&self, newcomer: AddressBlock) -> Option<Job> {
        let mut jobs = self.jobs.lock();
        let gives_way = AddressBlock::gives_way(jobs.all().map(|job| job.place.1), newcomer);
        let of_network = jobs.waiting.iter().position(|(network, _)| *network == gives_way.network())?;
        let (_, waiting) = jobs.waiting.get_mut(of_network)?;
        let newest = waiting.iter().rposition(|job| job.place.1 == gives_way)?;
        let job = waiting.remove(newest);
        if waiting.is_empty() {
            jobs.waiting.remove(of_network);
        }
        job
    }
}

/// The threads that compare passwords. They start with the first one.
#[derive(Default)]
pub struct PasswordChecks {
    queue: Arc<Queue>,
    threads: OnceLock<usize>,
    places: Arc<Places>,
}

impl Drop for PasswordChecks {
    fn drop(&mut self) {
        self.queue.jobs.lock().is_closed = true;
        self.queue.comes.notify_all();
    }
}

impl PasswordChecks {
    /// Whether nothing is compared, and nothing waits.
    pub fn is_idle(&self) -> bool {
        self.places.lock().is_empty()
    }

    /// How many wait for a thread.
    pub fn waiting(&self) -> usize {
        self.queue.jobs.lock().all().count()
    }

    /// A place for a comparison that somebody at this address asks for.
    pub fn place(&self, address: AddressBlock) -> Result<Place, Busy> {
        loop {
            match Place::take(&self.places, address) {
                Err(Busy::Full) if !self.places.lock().contains_key(&address) => {
                    // Dropped here, and its place with it.
                    self.queue.give_way(address).ok_or(Busy::Full)?;
                }
                taken => return taken,
            }
        }
    }

    /// Whether this is the password of that hash. It waits from now on; resolves once it was compared.
    pub fn compare(
        &self,
        password: Secret,
        hash: Secret,
        place: Place,
    ) -> impl Future<Output = Result<bool, Busy>> + use<> {
        let (answer, answered) = oneshot::channel();
        let job = Job { password, hash, answer, place };
        // Where no thread starts, logins are refused.
        if *self.threads.get_or_init(|| start(&self.queue)) > 0 {
            self.queue.jobs.lock().push(job);
            self.queue.comes.notify_one();
        }
        async move { answered.await.map_err(|_| Busy::Full) }
    }
}

/// How many there are then.
fn start(queue: &Arc<Queue>) -> usize {
    // Half of the cores: where there are two, whoever serves has one to itself.
    let cores = thread::available_parallelism().map_or(1, usize::from);
    let started = (0..(cores / 2).clamp(1, THREADS)).filter(|index| {
        let queue = Arc::clone(queue);
        thread::Builder::new().name(format!("password-{index}")).spawn(move || run(&queue)).is_ok()
    });
    started.count()
}

fn run(queue: &Queue) {
    // Behind the threads that serve. A failure costs no more than that.
    let _ = rustix::process::setpriority_process(None, 19);
    // Kept: what is given back and taken again each time comes to several times as much with some allocators.
    let mut memory = Vec::new();
    while let Some(Job { password, hash, answer, place }) = queue.next() {
        // Who has left needs no answer.
        let is_right = !answer.is_closed() && is_of(&password, &hash, &mut memory);
        // Whoever has the answer may ask again.
        drop(place);
        let _ = answer.send(is_right);
    }
}

#[cfg(test)]
mod tests {
    use std::{future::poll_fn, task::Poll};

    use super::*;

    fn secret(text: &str) -> Secret {
        Secret::new(text.into())
    }

    #[test]
    fn a_hash_is_of_its_password_only_and_is_never_the_same_twice() {
        let hashed = hash(&secret("correct horse")).unwrap();
        assert!(hashed.expose().starts_with("$argon2id$v=19$m=19456,t=2,p=1$"), "{}", hashed.expose());
        let memory = &mut Vec::new();
        assert!(is_of(&secret("correct horse"), &hashed, memory));
        for other in ["", "Correct horse", "correct horse ", "correct hors"] {
            assert!(!is_of(&secret(other), &hashed, memory), "{other:?}");
        }
        assert_ne!(hash(&secret("correct horse")).unwrap(), hashed);
        assert!(!is_of(&secret("correct horse"), &secret("no hash"), memory));
        assert!(is_of(&secret("correct horse"), &hashed, memory), "whatever was in it");
    }

    #[test]
    fn a_hash_that_another_program_made_is_taken() {
        // From the tests of the reference implementation.
        let made = "$argon2id$v=19$m=65536,t=2,p=1$c29tZXNhbHQ$CTFhFdXPJO1aFaMaO6Mm5c8y7cJHAph8ArZWb2GRPPc";
        let memory = &mut Vec::new();
        assert!(is_of(&secret("password"), &secret(made), memory));
        assert!(!is_of(&secret("Password"), &secret(made), memory));
        assert!(!is_of(&secret("password"), &secret(&made.replace("CTFh", "CTFi")), memory));
    }

    #[tokio::test]
    async fn passwords_are_compared_elsewhere_some_at_a_time_and_some_of_an_address() {
        let checks = PasswordChecks::default();
        let hashed = hash(&secret("secret")).unwrap();
        let address = |last: u8| AddressBlock::from(std::net::IpAddr::from([192, 0, 2, last]));
        let compare = |text: &str, last| {
            checks.place(address(last)).map(|place| checks.compare(secret(text), hashed.clone(), place))
        };
        assert_eq!(compare("secret", 1).unwrap().await, Ok(true));
        assert_eq!(compare("Secret", 1).unwrap().await, Ok(false));

        let of_one: Vec<_> = (0..4).map(|_| compare("secret", 1).unwrap()).collect();
        assert_eq!(compare("secret", 1).map(drop).unwrap_err(), Busy::Address);
        let mut others: Vec<_> =
            (2..=4).flat_map(|last| [last; 4]).filter_map(|last| compare("secret", last).ok()).collect();
        let full = (5..=250)
            .flat_map(|last| [last; 2])
            .find_map(|last| compare("secret", last).map(|answer| others.push(answer)).err());
        assert_eq!(full, Some(Busy::Full), "a second one of an address");
        others.push(compare("secret", 251).unwrap());
        for answer in of_one.into_iter().chain(others) {
            assert_eq!(answer.await, Ok(true));
        }
        // Places are given back, also of those that left.
        drop(compare("secret", 1));
        while !checks.is_idle() {
            tokio::task::yield_now().await;
        }
        assert_eq!(compare("secret", 1).unwrap().await, Ok(true));
    }

    #[test]
    fn networks_have_their_turns_however_much_one_of_them_asks() {
        let checks = PasswordChecks::default();
        checks.threads.set(THREADS).unwrap();
        let compare = |address: &str| {
            let address = AddressBlock::from(address.parse::<std::net::IpAddr>().unwrap());
            checks.compare(secret("secret"), secret("hash"), checks.place(address).unwrap())
        };
        let crowd: Vec<_> = (1..=9).map(|last| compare(&format!("192.0.2.{last}"))).collect();
        let others = [compare("198.51.100.1"), compare("203.0.113.1"), compare("198.51.100.2")];
        let order: Vec<_> =
            (0..12).map(|_| checks.queue.next().unwrap().place.1.network().to_string()).collect();
        let [crowd_s, one_s, other_s] = ["192.0.2.0", "198.51.100.0", "203.0.113.0"];
        assert_eq!(order[..5], [crowd_s, one_s, other_s, crowd_s, one_s]);
        assert!(order[5..].iter().all(|network| network == crowd_s));
        assert_eq!(checks.waiting(), 0);
        drop((crowd, others));
    }

    #[tokio::test]
    async fn a_network_of_many_addresses_gives_way_to_an_address_of_another() {
        let checks = PasswordChecks::default();
        // Nobody compares: the threads are others'.
        checks.threads.set(THREADS).unwrap();
        let compare = |address: &str| {
            let address = AddressBlock::from(address.parse::<std::net::IpAddr>().unwrap());
            let place = checks.place(address);
            place.map(|place| checks.compare(secret("secret"), secret("hash"), place))
        };
        let crowd = (0..MOST).map(|part| Box::pin(compare(&format!("2001:db8:1:{part:x}::1")).unwrap()));
        let mut crowd: Vec<_> = crowd.collect();
        let one = compare("192.0.2.1").unwrap();
        let mut answers = Vec::new();
        poll_fn(|cx| {
            crowd.retain_mut(|waits| match waits.as_mut().poll(cx) {
                Poll::Ready(answer) => {
                    answers.push(answer);
                    false
                }
                Poll::Pending => true,
            });
            if answers.is_empty() { Poll::Pending } else { Poll::Ready(()) }
        })
        .await;
        assert_eq!(answers, [Err(Busy::Full)], "one of them");
        assert_eq!(compare("192.0.2.1").map(drop).unwrap_err(), Busy::Full, "it has one");
        assert!(compare("2001:db8:1:ffff::1").is_ok(), "at the cost of another one of that network");
        assert_eq!(checks.waiting(), MOST);
        drop(one);
    }
}
