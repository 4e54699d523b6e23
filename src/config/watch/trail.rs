//! Every place on the way to a file where someone can put another one.

use std::{
    collections::{HashMap, HashSet, VecDeque},
    fs::Metadata,
    os::unix::fs::MetadataExt,
    path::{Component, Path, PathBuf},
    time::{Duration, SystemTime},
};

/// As many links as Linux follows in one path. A loop ends here too.
const MAX_LINKS: usize = 40;

/// Tells a file or directory from another one that took its name: device and inode.
pub(super) type Identity = (u64, u64);

/// The way to some files, link by link. Its paths go through no link, so each names one thing in one way.
#[derive(Default)]
pub(super) struct Trail {
    /// What has to be watched: the directory of every link and every file, where a rename shows; and the file
    /// itself, for a write that comes through another directory (a bind mount, a hard link).
    pub(super) targets: HashMap<PathBuf, Identity>,
    /// Whose coming, going or changing matters.
    pub(super) names: HashSet<PathBuf>,
    /// When the last of the files, or a link to it, was written, renamed or made.
    pub(super) touched: Option<SystemTime>,
}

impl FromIterator<Self> for Trail {
    fn from_iter<I: IntoIterator<Item = Self>>(trails: I) -> Self {
        let mut all = Self::default();
        for trail in trails {
            all.targets.extend(trail.targets);
            all.names.extend(trail.names);
            all.touched = all.touched.max(trail.touched);
        }
        all
    }
}

impl Trail {
    pub(super) fn of<P: AsRef<Path>>(files: impl IntoIterator<Item = P>) -> Self {
        let mut trail = Self::default();
        for file in files {
            // It fails without a current directory. Polling still works then, as long as anything does.
            if let Ok(path) = std::path::absolute(file) {
                trail.follow(&path);
            }
        }
        trail
    }

    fn follow(&mut self, path: &Path) {
        let mut ahead: VecDeque<PathBuf> = path.components().map(to_path).collect();
        let mut at = PathBuf::new();
        let mut links = 0;
        while let Some(step) = ahead.pop_front() {
            match step.components().next() {
                Some(Component::Normal(_)) => {}
                Some(Component::ParentDir) => {
                    at.pop();
                    continue;
                }
                _ => {
                    at.push(step);
                    continue;
                }
            }
            let name = at.join(step);
            self.names.insert(name.clone());
            let Ok(metadata) = name.symlink_metadata() else {
                // As far as the way leads. What is missing will appear here.
                return self.watch(&at);
            };
            if metadata.is_dir() {
                at = name;
                continue;
            }
            self.watch(&at);
            self.touched = self.touched.max(touched(&metadata));
            if !metadata.is_symlink() {
                return self.watch(&name);
            }
            links += 1;
            let Ok(target) = name.read_link() else { return };
            if links > MAX_LINKS {
                return;
            }
            for step in target.components().map(to_path).rev() {
                ahead.push_front(step);
            }
        }
    }

    fn watch(&mut self, path: &Path) {
        if let Ok(metadata) = path.symlink_metadata() {
            self.targets.insert(path.to_owned(), identity(&metadata));
        }
    }
}

fn to_path(component: Component<'_>) -> PathBuf {
    PathBuf::from(component.as_os_str())
}

fn identity(metadata: &Metadata) -> Identity {
    (metadata.dev(), metadata.ino())
}

/// The change of status, not of contents: renaming an old file over a new one must count.
fn touched(metadata: &Metadata) -> Option<SystemTime> {
    let since_epoch =
        Duration::new(metadata.ctime().try_into().ok()?, metadata.ctime_nsec().try_into().ok()?);
    SystemTime::UNIX_EPOCH.checked_add(since_epoch)
}
