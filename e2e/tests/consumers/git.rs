//! git sends the token to Apache with mod_auth_openidc, which runs git-http-backend.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use dexsidecar_e2e::certificates::Authority;
use dexsidecar_e2e::consumer_page::Page;
use dexsidecar_e2e::prebuilt;
use dexsidecar_e2e::process::Process;
use dexsidecar_fetch::counterparts::{GIT_AND_APACHE, Source};

use crate::world::{
    BIN, Sidecar, World, cached_token, http_status, start, transcript, until, until_expired, without_outputs,
    write,
};
use crate::{ConsumerTest, test};

pub(crate) const TESTS: &[ConsumerTest] = &[test!(git_clones_and_pushes_with_each_new_token, NEEDS)];

const NEEDS: &[Source] = &[Source::Debian(GIT_AND_APACHE)];

/// The configuration file of the page.
const CONFIG: &str = "/etc/dexsidecar/git.yaml";
const REFS: &str = "https://git.example.com:8443/git/app.git/info/refs?service=git-upload-pack";

/// The `XDG_RUNTIME_DIR` of a git where no dexsidecar runs.
const RUNTIME: &str = "/run/user/git";
const ALONE: &str = "/etc/dexsidecar/git-alone.yaml";

/// Starts Apache as a user without rights, in the root directory of its packages.
fn start_apache(root: &Path) -> Process {
    let arguments = format!(
        "--user --map-user=65534 --map-group=65534 --root={} --wd=/ /usr/sbin/apache2 -D FOREGROUND -f /etc/apache2/git.conf",
        root.display()
    );
    start("apache2", "/usr/bin/unshare".as_ref(), &arguments, &[])
}

/// Mounts what the programs use into the root directory of their packages, and puts `git` on PATH.
fn enter_packages() -> std::path::PathBuf {
    let root = prebuilt::packages(&GIT_AND_APACHE);
    for (from, to) in
        [("/run", "run"), ("/run", "var/run"), ("/etc", "etc"), ("/dev", "dev"), ("/tmp", "tmp")]
    {
        let mounted = transcript(&[]).quietly(&format!("mount --rbind {from} {}/{to}", root.display()));
        assert_eq!(mounted, "");
    }
    let git = Path::new(BIN).join("git");
    fs::write(&git, format!("#!/bin/sh\nexec chroot {} /usr/bin/git \"$@\"\n", root.display()))
        .expect("/run is writable");
    fs::set_permissions(&git, fs::Permissions::from_mode(0o755)).expect("it was written");
    root
}

fn git_clones_and_pushes_with_each_new_token(world: &World) {
    let page = Page::of("git");
    let root = enter_packages();
    let mut sidecar = Sidecar::start(&page, CONFIG);
    let first = sidecar.until_another_token("");
    let mut transcript = transcript(&[
        ("GIT_TERMINAL_PROMPT", "0"),
        ("GIT_AUTHOR_NAME", "app"),
        ("GIT_AUTHOR_EMAIL", "app@example.com"),
        ("GIT_AUTHOR_DATE", "2026-01-01T00:00:00Z"),
        ("GIT_COMMITTER_NAME", "app"),
        ("GIT_COMMITTER_EMAIL", "app@example.com"),
        ("GIT_COMMITTER_DATE", "2026-01-01T00:00:00Z"),
    ]);
    fs::create_dir_all("/run/clone").expect("/run is writable");
    let made = transcript.quietly(
        "set -e; git init -q --bare -b main /run/git/repos/app.git; git -C /run/git/repos/app.git config http.receivepack true
        git init -q -b main /run/clone/seed; git -C /run/clone/seed commit -q --allow-empty -m first
        git -C /run/clone/seed push -q /run/git/repos/app.git main",
    );
    assert_eq!(made, "");
    let authority = Authority::new();
    let certificate = authority.server(&["git.example.com"]);
    for (from, to) in [
        (&authority.file(), "/etc/git/ca.crt"),
        (&certificate.certificate, "/etc/git/server.crt"),
        (&certificate.key, "/etc/git/server.key"),
    ] {
        write(to, &fs::read(from).expect("it was made"));
    }
    let _apache = start_apache(&root);
    until("Apache answers", || http_status(REFS, Some(&world.issue("git"))) == "200");
    page.result("answers", &world.answers("git", "200", |token| http_status(REFS, token)));

    // A helper with no file of a running dexsidecar.
    write(ALONE, without_outputs(page.file(CONFIG)).as_bytes());
    fs::create_dir_all(RUNTIME).expect("/run is writable");
    let section = "credential.https://git.example.com:8443";
    let alone = format!(
        "XDG_RUNTIME_DIR={RUNTIME} git -c {section}.helper= -c {section}.helper='!dexsidecar token --config {ALONE} \
         --format git' ls-remote --heads https://git.example.com:8443/git/app.git"
    );
    let listed = transcript.quietly(&alone);
    assert!(listed.ends_with("\trefs/heads/main\n"), "{listed}");
    let first_alone = cached_token(RUNTIME.as_ref());

    transcript.run("git clone https://git.example.com:8443/git/app.git /run/clone/app");
    sidecar.until_another_token(&first);
    until_expired(&first);
    until("the first token is refused", || http_status(REFS, Some(&first)) == "401");
    transcript.meanwhile("dexsidecar refreshed the token, and Apache refuses the first one");
    transcript.run("git -C /run/clone/app commit -q --allow-empty -m second");
    transcript.run("git -C /run/clone/app push");
    let pushed = transcript.quietly("git -C /run/git/repos/app.git log -1 --format=%s main");
    assert_eq!(pushed, "second\n", "{}", transcript.block());
    until_expired(&first_alone);
    let listed = transcript.quietly(&alone);
    assert!(listed.ends_with("\trefs/heads/main\n"), "{listed}");
    assert_ne!(cached_token(RUNTIME.as_ref()), first_alone, "the helper exchanged again after the expiry");
    page.result("transcript", &transcript.block());
}
