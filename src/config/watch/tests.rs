//! People saving files, on a real file system.

use std::{
    fs::{self, OpenOptions},
    io::Write,
    os::unix::fs::{PermissionsExt, symlink},
    path::Path,
    process::Command,
    thread,
};

use tempfile::TempDir;
use tokio::time::timeout;

use super::*;

/// Long enough for a machine that is busy with other things.
const EVENTUALLY: Duration = Duration::from_secs(20);

/// Longer than any state has to last to be believed, short of a writer who keeps his file open.
const LONG_ENOUGH: Duration = Duration::from_millis(500);

/// A directory with a config file in it.
fn home() -> (TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("config.json");
    fs::write(&file, "first").unwrap();
    (dir, file)
}

fn watching(file: &Path) -> Watcher {
    Watcher::new(vec![file.to_owned()])
}

/// Takes the clock away, so that only a notice can make the watcher look.
async fn rely_on_notices(watcher: &mut Watcher) {
    let _ = timeout(Duration::ZERO, watcher.notices.wait()).await;
    watcher.settling = false;
    watcher.next_look = Instant::now() + Duration::from_secs(3_600);
}

async fn is_reported(watcher: &mut Watcher) -> FileChange {
    timeout(EVENTUALLY, watcher.changed()).await.expect("the change should have been reported")
}

async fn nothing_is_reported(watcher: &mut Watcher) {
    assert!(
        timeout(LONG_ENOUGH, watcher.changed()).await.is_err(),
        "nothing changed, and yet something was reported"
    );
}

/// `save` leads to one report, made for what it left behind.
async fn save_is_reported_once(watcher: &mut Watcher, save: impl FnOnce()) {
    rely_on_notices(watcher).await;
    save();
    is_reported(watcher).await;
    nothing_is_reported(watcher).await;
}

fn run(program: &str, args: &[&str], dir: &Path) {
    assert!(Command::new(program).args(args).current_dir(dir).status().unwrap().success());
}

#[tokio::test]
async fn written_in_place() {
    let (_dir, file) = home();
    let mut watcher = watching(&file);
    save_is_reported_once(&mut watcher, || fs::write(&file, "second").unwrap()).await;
    save_is_reported_once(&mut watcher, || fs::write(&file, "third").unwrap()).await;
}

#[tokio::test]
async fn renamed_over() {
    let (dir, file) = home();
    let mut watcher = watching(&file);
    for contents in ["second", "third"] {
        save_is_reported_once(&mut watcher, || {
            fs::write(dir.path().join("new"), contents).unwrap();
            fs::rename(dir.path().join("new"), &file).unwrap();
        })
        .await;
    }
    save_is_reported_once(&mut watcher, || fs::write(&file, "in place, into the new file").unwrap()).await;
}

#[tokio::test]
async fn kept_as_a_backup_and_written_anew_as_vim_does() {
    let (dir, file) = home();
    let mut watcher = watching(&file);
    for contents in ["second", "third"] {
        save_is_reported_once(&mut watcher, || {
            fs::rename(&file, dir.path().join("config.json~")).unwrap();
            fs::write(&file, contents).unwrap();
        })
        .await;
    }
}

#[tokio::test]
async fn edited_by_sed() {
    let (dir, file) = home();
    let mut watcher = watching(&file);
    save_is_reported_once(&mut watcher, || run("sed", &["-i", "s/first/second/", "config.json"], dir.path()))
        .await;
    assert_eq!(fs::read_to_string(&file).unwrap(), "second");
}

#[tokio::test]
async fn deleted_and_recreated() {
    let (_dir, file) = home();
    let mut watcher = watching(&file);
    save_is_reported_once(&mut watcher, || {
        fs::remove_file(&file).unwrap();
        fs::write(&file, "second").unwrap();
    })
    .await;
}

#[tokio::test]
async fn deleted_for_good_and_recreated_later() {
    let (_dir, file) = home();
    let mut watcher = watching(&file);
    save_is_reported_once(&mut watcher, || fs::remove_file(&file).unwrap()).await;
    save_is_reported_once(&mut watcher, || fs::write(&file, "second").unwrap()).await;
}

#[tokio::test]
async fn truncated_and_written_byte_by_byte() {
    let (_dir, file) = home();
    let mut watcher = watching(&file);
    rely_on_notices(&mut watcher).await;

    let text = r#"{"tokens":["a","b"]}"#;
    let writer = thread::spawn({
        let file = file.clone();
        move || {
            let mut file = fs::File::create(file).unwrap();
            for byte in text.bytes() {
                file.write_all(&[byte]).unwrap();
                // Real time: longer than two looks are apart: every one of these states lasts long enough to be seen twice.
                thread::sleep(2 * SETTLE);
            }
        }
    });
    is_reported(&mut watcher).await;
    assert_eq!(fs::read_to_string(&file).unwrap(), text, "reported before its writer was done");
    writer.join().unwrap();
    nothing_is_reported(&mut watcher).await;
}

#[tokio::test]
async fn written_by_someone_who_never_closes_it() {
    let (_dir, file) = home();
    let mut watcher = watching(&file);
    rely_on_notices(&mut watcher).await;
    let mut writer = OpenOptions::new().append(true).open(&file).unwrap();
    writer.write_all(b" and more").unwrap();
    is_reported(&mut watcher).await;
}

#[tokio::test]
async fn linked_elsewhere() {
    let (dir, _) = home();
    for (release, contents) in [("one", "first"), ("two", "second")] {
        fs::create_dir(dir.path().join(release)).unwrap();
        fs::write(dir.path().join(release).join("config.json"), contents).unwrap();
    }
    symlink("one", dir.path().join("current")).unwrap();
    let file = dir.path().join("current/config.json");
    let mut watcher = watching(&file);

    save_is_reported_once(&mut watcher, || run("ln", &["-sfn", "two", "current"], dir.path())).await;
    let behind_the_new_link = dir.path().join("two/config.json");
    save_is_reported_once(&mut watcher, || fs::write(behind_the_new_link, "third").unwrap()).await;
}

#[tokio::test]
async fn mounted_from_a_kubernetes_config_map() {
    let dir = tempfile::tempdir().unwrap();
    let mount = dir.path();
    let publish = |version: &str, contents: &str| {
        fs::create_dir(mount.join(version)).unwrap();
        fs::write(mount.join(version).join("config.json"), contents).unwrap();
        symlink(version, mount.join("..data_tmp")).unwrap();
        fs::rename(mount.join("..data_tmp"), mount.join("..data")).unwrap();
    };
    publish("..2026_01", "first");
    symlink("..data/config.json", mount.join("config.json")).unwrap();
    let mut watcher = watching(&mount.join("config.json"));

    for (old, new) in [("..2026_01", "..2026_02"), ("..2026_02", "..2026_03")] {
        save_is_reported_once(&mut watcher, || {
            publish(new, new);
            fs::remove_dir_all(mount.join(old)).unwrap();
        })
        .await;
    }
}

#[tokio::test]
async fn in_a_directory_that_is_replaced() {
    let dir = tempfile::tempdir().unwrap();
    let etc = dir.path().join("etc");
    fs::create_dir(&etc).unwrap();
    let file = etc.join("config.json");
    fs::write(&file, "first").unwrap();
    let mut watcher = watching(&file);

    let new = dir.path().join("new");
    fs::create_dir(&new).unwrap();
    fs::write(new.join("config.json"), "second").unwrap();
    save_is_reported_once(&mut watcher, || {
        fs::rename(&etc, dir.path().join("old")).unwrap();
        fs::rename(&new, &etc).unwrap();
    })
    .await;
    save_is_reported_once(&mut watcher, || fs::write(&file, "third").unwrap()).await;
    save_is_reported_once(&mut watcher, || fs::remove_dir_all(&etc).unwrap()).await;
    save_is_reported_once(&mut watcher, || {
        fs::create_dir(&etc).unwrap();
        fs::write(&file, "fourth").unwrap();
    })
    .await;
}

#[tokio::test]
async fn through_a_hard_link_in_another_directory() {
    let (_dir, file) = home();
    let elsewhere = tempfile::tempdir_in(file.parent().unwrap().parent().unwrap()).unwrap();
    let alias = elsewhere.path().join("alias");
    fs::hard_link(&file, &alias).unwrap();
    let mut watcher = watching(&file);
    save_is_reported_once(&mut watcher, || fs::write(&alias, "second").unwrap()).await;
}

#[tokio::test]
async fn chmod_and_touch_and_the_same_contents_again_are_no_change() {
    let (dir, file) = home();
    let mut watcher = watching(&file);
    rely_on_notices(&mut watcher).await;
    fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
    nothing_is_reported(&mut watcher).await;
    run("touch", &["config.json"], dir.path());
    nothing_is_reported(&mut watcher).await;
    fs::write(&file, "first").unwrap();
    nothing_is_reported(&mut watcher).await;
    fs::remove_file(&file).unwrap();
    fs::write(&file, "first").unwrap();
    nothing_is_reported(&mut watcher).await;
}

#[tokio::test]
async fn the_watchers_own_reading_gives_it_no_reason_to_look() {
    let (_dir, file) = home();
    let mut watcher = watching(&file);
    rely_on_notices(&mut watcher).await;
    watcher.look();
    assert!(timeout(LONG_ENOUGH, watcher.notices.wait()).await.is_err());
}

#[tokio::test]
async fn a_fifo_in_the_place_of_a_file_blocks_nobody() {
    let (dir, file) = home();
    let mut watcher = watching(&file);
    save_is_reported_once(&mut watcher, || {
        fs::remove_file(&file).unwrap();
        run("mkfifo", &["config.json"], dir.path());
    })
    .await;
}

#[tokio::test]
async fn a_loop_of_links_is_followed_to_no_file() {
    let (dir, file) = home();
    let mut watcher = watching(&file);
    save_is_reported_once(&mut watcher, || {
        fs::remove_file(&file).unwrap();
        symlink("config.json", &file).unwrap();
    })
    .await;
    save_is_reported_once(&mut watcher, || {
        fs::write(dir.path().join("new"), "second").unwrap();
        fs::rename(dir.path().join("new"), &file).unwrap();
    })
    .await;
}

#[tokio::test]
async fn either_of_two_files() {
    let (dir, config) = home();
    let certs = tempfile::tempdir().unwrap();
    let cert = certs.path().join("cert.pem");
    fs::write(&cert, "certificate").unwrap();
    let mut watcher = Watcher::new(vec![config.clone(), cert.clone()]);

    save_is_reported_once(&mut watcher, || fs::write(&cert, "renewed").unwrap()).await;
    save_is_reported_once(&mut watcher, || fs::write(&config, "second").unwrap()).await;
    drop(dir);
    save_is_reported_once(&mut watcher, || fs::write(&cert, "renewed again").unwrap()).await;
}

#[tokio::test]
async fn a_file_that_a_reload_named() {
    let (dir, config) = home();
    let cert = dir.path().join("cert.pem");
    fs::write(&cert, "certificate").unwrap();
    let mut watcher = watching(&config);

    let long_after = SystemTime::now() + Duration::from_secs(3_600);
    watcher.watch(vec![config.clone(), cert.clone()], long_after);
    nothing_is_reported(&mut watcher).await;
    save_is_reported_once(&mut watcher, || fs::write(&cert, "renewed").unwrap()).await;

    watcher.watch(vec![config], long_after);
    rely_on_notices(&mut watcher).await;
    fs::write(&cert, "of no interest now").unwrap();
    nothing_is_reported(&mut watcher).await;
}

#[tokio::test]
async fn what_changes_between_loading_and_watching_is_not_lost() {
    let (dir, config) = home();
    let cert = dir.path().join("cert.pem");
    let mut watcher = watching(&config);

    let loading_began = SystemTime::now();
    fs::write(&cert, "renewed just after it was read").unwrap();
    fs::write(&config, "edited just after it was read").unwrap();
    watcher.watch(vec![cert.clone()], loading_began);
    is_reported(&mut watcher).await;
    watcher.watch(vec![cert, config.clone()], loading_began);
    is_reported(&mut watcher).await;
    nothing_is_reported(&mut watcher).await;
}

#[tokio::test]
async fn a_report_that_nobody_waited_for_is_not_lost() {
    let (_dir, file) = home();
    let mut watcher = watching(&file);
    rely_on_notices(&mut watcher).await;
    fs::write(&file, "second").unwrap();
    // Called and dropped again and again, as in the arm of a select.
    for _ in 0..20 {
        if timeout(SETTLE / 5, watcher.changed()).await.is_ok() {
            return;
        }
    }
    is_reported(&mut watcher).await;
}

#[tokio::test]
async fn without_notices_the_watcher_polls_and_says_why() {
    let (_dir, file) = home();
    let no_notices = Err(notify::Error::new(notify::ErrorKind::MaxFilesWatch));
    let mut watcher = Watcher::with_notifier(vec![file.clone()], Arc::default(), no_notices);
    assert!(watcher.problem().is_some_and(|problem| problem.contains("watch")), "{:?}", watcher.problem());
    nothing_is_reported(&mut watcher).await;
    fs::write(&file, "second").unwrap();
    is_reported(&mut watcher).await;
}

/// What is saved is reported while the storm goes on: it ends with the report.
#[tokio::test]
async fn in_a_storm_that_does_not_end() {
    type Save = fn(&Path, &str);
    let in_place: Save = |file, text| fs::write(file, text).unwrap();
    let renamed_over: Save = |file, text| {
        let new = file.with_extension("new");
        fs::write(&new, text).unwrap();
        fs::rename(&new, file).unwrap();
    };
    for save in [in_place, renamed_over] {
        let (_dir, file) = home();
        let mut watcher = watching(&file);
        let is_over = Arc::new(std::sync::atomic::AtomicBool::new(false));
        let storm = thread::spawn({
            let (file, is_over) = (file.clone(), Arc::clone(&is_over));
            move || {
                let mut version = 0;
                while !is_over.load(std::sync::atomic::Ordering::Relaxed) {
                    version += 1;
                    save(&file, &format!("version {version}"));
                    // Real time: saves follow each other faster than the watcher settles.
                    thread::sleep(Duration::from_millis(10));
                }
            }
        });
        let reported = timeout(EVENTUALLY, watcher.changed()).await;
        // It was half of a save, say: the next look tells what is there then.
        watcher.retry();
        let again = timeout(EVENTUALLY, watcher.changed()).await;
        is_over.store(true, std::sync::atomic::Ordering::Relaxed);
        storm.join().unwrap();
        assert!(
            reported.is_ok() && again.is_ok(),
            "nothing was reported in the storm: {reported:?}, {again:?}"
        );
        save(&file, "the last one");
        while is_reported(&mut watcher).await != FileChange::Final {}
        nothing_is_reported(&mut watcher).await;
    }
}

#[tokio::test]
async fn what_somebody_asks_for_is_reported_once_however_often_he_asks() {
    let (_dir, file) = home();
    let mut watcher = watching(&file);
    rely_on_notices(&mut watcher).await;
    for _ in 0..100 {
        watcher.report_in_any_case();
    }
    is_reported(&mut watcher).await;
    nothing_is_reported(&mut watcher).await;
    drop(file);
}

#[tokio::test]
async fn a_storm_of_saves_is_a_few_changes() {
    let (dir, file) = home();
    let mut watcher = watching(&file);
    let storm = thread::spawn({
        let (new, file) = (dir.path().join("new"), file.clone());
        move || {
            // Real time: how many reports are few depends on how long the storm took.
            let began = Instant::now();
            for version in 1..=1_000 {
                fs::write(&new, format!("version {version}")).unwrap();
                fs::rename(&new, &file).unwrap();
                thread::sleep(Duration::from_millis(1));
            }
            began.elapsed()
        }
    });
    let mut reports = 0;
    loop {
        is_reported(&mut watcher).await;
        reports += 1;
        if fs::read_to_string(&file).unwrap() == "version 1000" {
            break;
        }
    }
    let lasted = storm.join().unwrap();
    assert!(f64::from(reports) <= 1.0 + 20.0 * lasted.as_secs_f64(), "{reports} reports in {lasted:?}");
    nothing_is_reported(&mut watcher).await;
}
