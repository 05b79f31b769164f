//! Faults of the subject token's file: replaced, partial, unreadable, expired.

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use dexsidecar_e2e::dex::{Dex, DexSetup};
use dexsidecar_e2e::fake_api_server::{FakeApiServer, Flaw};
use dexsidecar_e2e::fake_dex::{Answer, FakeDex};
use dexsidecar_e2e::log_events::select;
use dexsidecar_e2e::process::{Process, killed_with_parent};
use dexsidecar_e2e::projected_volume::ProjectedVolume;
use dexsidecar_e2e::sidecar::{Setup, failed_step, in_namespace, program, report};
use rustix::process::Signal;

/// A token whose first and last part have the same number, so that a mixture of two is noticed.
fn numbered(number: usize) -> String {
    format!("eyJh{number}.{}.canary{number}", "x".repeat(2_000))
}

#[test]
fn f059_f060_no_partial_subject_token_is_sent_however_the_file_is_written() {
    let endpoint = FakeDex::start();
    endpoint.always(Answer::Token(2));
    let volume = ProjectedVolume::with(&numbered(0));
    let directory = tempfile::tempdir().unwrap();
    let rewritten = directory.path().join("subject");
    fs::write(&rewritten, numbered(0)).unwrap();
    let stopping = AtomicBool::new(false);
    std::thread::scope(|scope| {
        // Replaced as by the kubelet, without delay.
        scope.spawn(|| {
            for number in 1.. {
                if stopping.load(Ordering::Relaxed) {
                    return;
                }
                volume.replace_token(&numbered(number));
            }
        });
        // Written in place in small pieces.
        scope.spawn(|| {
            for number in 1.. {
                let mut file = fs::OpenOptions::new().write(true).truncate(true).open(&rewritten).unwrap();
                for piece in numbered(number).as_bytes().chunks(300) {
                    if stopping.load(Ordering::Relaxed) {
                        return;
                    }
                    file.write_all(piece).unwrap();
                    std::thread::sleep(std::time::Duration::from_millis(1));
                }
                std::thread::sleep(std::time::Duration::from_millis(20));
            }
        });
        let swapped = Setup::new().subject(&volume).at_fake(&endpoint).run();
        let in_place =
            Setup::new().set("dex_file_subject_token", rewritten.to_str().unwrap()).at_fake(&endpoint).run();
        endpoint.until_requests(14);
        stopping.store(true, Ordering::Relaxed);
        drop((swapped, in_place));
    });
    for request in endpoint.requests() {
        let sent = request.field("subject_token").unwrap();
        let number =
            sent.strip_prefix("eyJh").and_then(|rest| rest.split('.').next()).unwrap().parse().unwrap();
        assert_eq!(sent, numbered(number));
    }
}

#[test]
fn f064_a_subject_token_that_this_uid_cannot_read_is_explained() {
    let endpoint = FakeDex::start();
    let directory = tempfile::tempdir().unwrap();
    fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o777)).unwrap();
    let subject = directory.path().join("subject");
    fs::write(&subject, numbered(0)).unwrap();
    let root = rustix::process::geteuid().is_root();
    fs::set_permissions(&subject, fs::Permissions::from_mode(if root { 0o600 } else { 0 })).unwrap();
    let setup = Setup::new()
        .set("dex_file_subject_token", subject.to_str().unwrap())
        .set("dex_access_token_file", directory.path().join("token").to_str().unwrap())
        .at_fake(&endpoint);
    let mut command = if root {
        let copy = directory.path().join("dexsidecar");
        fs::copy(program(), &copy).unwrap();
        let mut command = killed_with_parent("/usr/bin/setpriv".as_ref());
        command.args(["--reuid", "65532", "--regid", "65532", "--clear-groups"]).arg(copy);
        command
    } else {
        killed_with_parent(&program())
    };
    command.env_clear().envs(setup.environment().iter().map(|line| {
        let (name, value) = line.split_once('=').unwrap();
        (name.to_owned(), value.trim_matches('\'').to_owned())
    }));
    let mut process = Process::start("dexsidecar", command);
    process.until_logged("code=subject_token_unreadable", 1);
    let failed = &select(&process.output(), "attempt_failed")[0];
    let text = |name: &str| failed[name].as_str().unwrap().to_owned();
    assert!(text("error").contains("this process runs as ") && text("fix").contains("fsGroup"), "{failed:#}");
    let owners = "this process runs as 65532:65532; file owner 0:0, mode 0600";
    assert!(!root || text("error").contains(owners), "{failed:#}");
    assert!(endpoint.requests().is_empty());
    // No restart is needed once the file is readable.
    fs::set_permissions(&subject, fs::Permissions::from_mode(0o644)).unwrap();
    process.until_logged("token_written", 1);
}

/// A way to lose the file of a valid subject token.
type Loss = (&'static str, fn(&Path));

#[test]
fn f057_f058_the_last_known_subject_token_is_sent_while_the_file_is_lost() {
    let issuer = FakeApiServer::start();
    let losses: [Loss; 3] = [
        ("removed", |path| fs::remove_file(path).unwrap()),
        ("emptied", |path| fs::write(path, "").unwrap()),
        ("partial", |path| fs::write(path, "a.b").unwrap()),
    ];
    std::thread::scope(|scope| {
        for (what, lose) in losses {
            let valid = issuer.token(3_600);
            scope.spawn(move || {
                let endpoint = FakeDex::start();
                let volume = ProjectedVolume::with(&valid);
                let mut sidecar = Setup::new().subject(&volume).at_fake(&endpoint).run();
                let first = sidecar.until_token();
                lose(&volume.token());
                sidecar.process.signal(Signal::HUP);
                sidecar.process.until_logged("input_unreadable", 1);
                sidecar.until_another_token(&first);
                let sent = endpoint.requests().pop().unwrap().field("subject_token");
                assert_eq!(sent, Some(valid), "{what}");
            });
        }
    });
}

#[test]
fn f066_each_attempt_sends_the_current_subject_token() {
    let endpoint = FakeDex::start();
    endpoint.always(Answer::Token(4));
    let volume = ProjectedVolume::with(&numbered(0));
    let _sidecar = Setup::new().subject(&volume).at_fake(&endpoint).run();
    for number in 1..4 {
        endpoint.until_requests(number);
        volume.replace_token(&numbered(number));
    }
    endpoint.until_requests(4);
    let sent: Vec<_> =
        endpoint.requests().iter().map(|request| request.field("subject_token").unwrap()).collect();
    assert_eq!(sent, (0..4).map(numbered).collect::<Vec<_>>());
}

#[test]
fn f067_f070_the_successor_of_a_refused_subject_token_is_used() {
    let issuer = FakeApiServer::start();
    let dex = Dex::start(&issuer, &DexSetup::default());
    // Not valid yet, of a deleted ServiceAccount, or of another cluster: Dex gives the same error.
    for flaw in [Flaw::NotYetValid, Flaw::Nameless, Flaw::UnknownKey] {
        let volume = ProjectedVolume::with(&issuer.flawed(flaw));
        let setup = Setup::new().subject(&volume).at(&dex);
        let failed = failed_step(&report(&setup));
        assert_eq!(failed["code"], "access_denied", "{flaw:?}: {failed:#}");
        let mut sidecar = setup.run();
        sidecar.process.until_logged("code=access_denied", 1);
        volume.replace_token(&issuer.token(600));
        sidecar.until_token();
    }
}

#[test]
fn f067_check_names_a_subject_token_that_is_not_valid_yet() {
    let issuer = FakeApiServer::start();
    let dex = Dex::start(&issuer, &DexSetup::default());
    let volume = ProjectedVolume::with(&issuer.flawed(Flaw::NotYetValid));
    let failed = failed_step(&report(&Setup::new().subject(&volume).at(&dex)));
    let begins = "by this node's clock the subject token becomes valid in ";
    assert!(failed["notes"].to_string().contains(begins), "{failed:#}");
}

/// A subPath mount keeps the first file when the source is replaced.
#[test]
fn f068_an_expired_subject_token_behind_subpath_is_reported_and_not_sent() {
    let endpoint = FakeDex::start();
    let issuer = FakeApiServer::start();
    let directory = tempfile::tempdir().unwrap();
    let (mounted, source) = (directory.path().join("mounted"), directory.path().join("source"));
    fs::write(&mounted, "").unwrap();
    fs::write(&source, issuer.flawed(Flaw::Expired)).unwrap();
    let setup = Setup::new().set("dex_file_subject_token", mounted.to_str().unwrap()).at_fake(&endpoint);
    let script = format!(
        "mount --bind {source} {mounted}; echo new > {source}.new; mv {source}.new {source}; \
         env -i {env} {program} once --timeout 2s 2>&1 || true",
        source = source.display(),
        mounted = mounted.display(),
        env = setup.environment().join(" "),
        program = program().display(),
    );
    let printed = in_namespace(&script);
    let failed = select(&printed, "attempt_failed");
    assert!(!failed.is_empty(), "{printed}");
    assert!(failed.iter().all(|failed| failed["code"] == "subject_token_expired"), "{printed}");
    assert!(endpoint.requests().is_empty(), "the token is not sent");
}

#[test]
fn f069_a_rotation_is_noticed_without_inotify() {
    let endpoint = FakeDex::start();
    endpoint.always(Answer::Token(4));
    let volume = ProjectedVolume::with(&numbered(0));
    let setup = Setup::new().subject(&volume).at_fake(&endpoint);
    // A user namespace in which inotify is not available.
    let words = ["--user", "--map-root-user", "--fork", "--kill-child=KILL", "sh", "-ec"];
    let mut command = killed_with_parent("/usr/bin/unshare".as_ref());
    command.args(words).arg(format!(
        "echo 0 > /proc/sys/user/max_inotify_instances; exec env -i {} {}",
        setup.environment().join(" "),
        program().display()
    ));
    let mut process = Process::start("dexsidecar", command);
    process.until_logged("token_written", 1);
    volume.replace_token(&numbered(1));
    endpoint.until_requests(2);
    assert_eq!(endpoint.requests()[1].field("subject_token"), Some(numbered(1)));
}
