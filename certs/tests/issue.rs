//! What is issued, judged by the code that judges it in the field: rustls, at given times.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "tests"
)]

use std::{
    fs,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use rustls::{
    ClientConfig, ClientConnection, RootCertStore, ServerConfig, ServerConnection,
    crypto::ring,
    server::{NoServerSessionStorage, WebPkiClientVerifier},
    time_provider::TimeProvider,
};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime, pem::PemObject as _};
use selium_remote_certs::{
    CertificateDirectory,
    issue::{
        Age, BACKDATED, Bundle, Contents, Details, Import, Init, Issue, IssueError, Layout, Name,
        Renew, Role, Verdict, import, inspect,
    },
};
use tempfile::TempDir;

const DAY: u64 = 86_400;

/// Some day, so that no test depends on the present.
const BEGIN: u64 = 1_800_000_000;

fn day(day: u64) -> UnixTime {
    UnixTime::since_unix_epoch(Duration::from_secs(BEGIN + day * DAY))
}

#[derive(Debug)]
struct At(UnixTime);

impl TimeProvider for At {
    fn current_time(&self) -> Option<UnixTime> {
        Some(self.0)
    }
}

/// A work dir after `init`.
struct Work {
    folder: TempDir,
    layout: Layout,
}

impl Work {
    fn new() -> Self {
        Self::with(&Init::default())
    }

    fn with(init: &Init) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let layout = Layout::new(folder.path());
        layout.init(init, day(0)).unwrap();
        Self { folder, layout }
    }

    fn path(&self, path: &str) -> PathBuf {
        self.folder.path().join(path)
    }

    fn details(&self, path: &str) -> Details {
        details(&self.path(path))
    }

    fn issue(&self, name: &str, role: &str) -> PathBuf {
        let mut issue = Issue::new(name.parse().unwrap());
        issue.role = role.parse().unwrap();
        self.layout.issue(&issue, day(0)).unwrap();
        self.path(&format!("clients/{name}"))
    }

    /// The control plane's server, whose clients need a certificate of these CAs.
    fn server(&self, clients: &str, at: UnixTime) -> ServerConfig {
        self.server_of("control-plane", clients, at)
    }

    fn server_of(&self, folder: &str, clients: &str, at: UnixTime) -> ServerConfig {
        let mut roots = RootCertStore::empty();
        for ca in chain(&self.path(clients)) {
            roots.add(ca).unwrap();
        }
        let provider = Arc::new(ring::default_provider());
        let verifier =
            WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider.clone())
                .build()
                .unwrap();
        let folder = self.path(folder);
        let key = PrivateKeyDer::from_pem_file(folder.join("server.key")).unwrap();
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13])
            .unwrap()
            .with_client_cert_verifier(verifier)
            .with_single_cert(chain(&folder.join("server.crt")), key)
            .unwrap();
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.time_provider = Arc::new(At(at));
        config
    }
}

fn client(folder: &Path, at: UnixTime) -> ClientConfig {
    let mut config = CertificateDirectory::load(folder)
        .unwrap()
        .client_config()
        .unwrap();
    config.time_provider = Arc::new(At(at));
    config
}

fn chain(path: &Path) -> Vec<CertificateDer<'static>> {
    CertificateDer::pem_file_iter(path)
        .unwrap()
        .collect::<Result<_, _>>()
        .unwrap()
}

fn details(path: &Path) -> Details {
    Details::parse(&chain(path)[0]).unwrap()
}

/// Whose refusal ended a handshake.
#[derive(Debug, PartialEq, Eq)]
enum Refused {
    ByClient(String),
    ByServer(String),
}

/// A handshake in memory.
fn handshake(client: ClientConfig, server: ServerConfig, name: &str) -> Result<(), Refused> {
    let name = ServerName::try_from(name.to_owned()).unwrap();
    let mut client = ClientConnection::new(Arc::new(client), name).unwrap();
    let mut server = ServerConnection::new(Arc::new(server)).unwrap();
    for _ in 0..10 {
        let mut wire = Vec::new();
        while client.wants_write() {
            client.write_tls(&mut wire).unwrap();
        }
        let mut rest = wire.as_slice();
        while !rest.is_empty() {
            server.read_tls(&mut rest).unwrap();
            server
                .process_new_packets()
                .map_err(|error| Refused::ByServer(error.to_string()))?;
        }
        let mut wire = Vec::new();
        while server.wants_write() {
            server.write_tls(&mut wire).unwrap();
        }
        let mut rest = wire.as_slice();
        while !rest.is_empty() {
            client.read_tls(&mut rest).unwrap();
            client
                .process_new_packets()
                .map_err(|error| Refused::ByClient(error.to_string()))?;
        }
        if !client.is_handshaking() && !server.is_handshaking() {
            return Ok(());
        }
    }
    panic!("the handshake does not end");
}

fn by_server(result: Result<(), Refused>, why: &str) {
    match result {
        Err(Refused::ByServer(text)) => assert!(text.contains(why), "{why}: {text}"),
        other => panic!("{why}: {other:?}"),
    }
}

fn by_client(result: Result<(), Refused>, why: &str) {
    match result {
        Err(Refused::ByClient(text)) => assert!(text.contains(why), "{why}: {text}"),
        other => panic!("{why}: {other:?}"),
    }
}

const ADMINS: &str = "control-plane/clients-admin.crt";

#[test]
fn the_first_client_and_the_server_take_each_other() {
    let mut init = Init::default();
    init.hosts = ["Selium.Example.org", "10.0.0.7", "localhost"]
        .map(|host| host.parse().unwrap())
        .to_vec();
    let work = Work::with(&init);
    let attempt = |name: &str| {
        handshake(
            client(&work.path("certs"), day(1)),
            work.server(ADMINS, day(1)),
            name,
        )
    };
    for name in [
        "localhost",
        "127.0.0.1",
        "::1",
        "selium.example.org",
        "10.0.0.7",
    ] {
        assert_eq!(attempt(name), Ok(()), "{name}");
    }
    for name in ["other.example.org", "10.0.0.8", "example.org"] {
        by_client(attempt(name), "not valid for name");
    }
    let details = work.details("control-plane/server.crt");
    assert_eq!(details.dns, ["localhost", "selium.example.org"]);
    assert_eq!(details.addresses.len(), 3);
}

#[test]
fn what_is_not_for_it_is_refused() {
    let work = Work::new();
    let other = Work::new();
    let certs = work.path("certs");
    let dial = |client: ClientConfig, server: ServerConfig| handshake(client, server, "localhost");
    let server = || work.server(ADMINS, day(1));

    // A client of another CA, and one of another role.
    let foreign = work.path("foreign");
    fs::create_dir(&foreign).unwrap();
    fs::copy(certs.join("ca.crt"), foreign.join("ca.crt")).unwrap();
    for file in ["client.crt", "client.key"] {
        fs::copy(other.path("certs").join(file), foreign.join(file)).unwrap();
    }
    by_server(dial(client(&foreign, day(1)), server()), "UnknownIssuer");
    let operator = work.issue("olga", "operator");
    by_server(dial(client(&operator, day(1)), server()), "UnknownIssuer");
    let operators = work.server("control-plane/clients-operator.crt", day(1));
    assert_eq!(dial(client(&operator, day(1)), operators), Ok(()));
    let operators = work.server("control-plane/clients-operator.crt", day(1));
    by_server(dial(client(&certs, day(1)), operators), "UnknownIssuer");

    // A server's certificate in a client's place, even where its CA is trusted for clients.
    for (folder, ca) in [("control-plane", "server"), ("certs", "runtime")] {
        for (from, to) in [("server.crt", "client.crt"), ("server.key", "client.key")] {
            fs::copy(work.path(folder).join(from), foreign.join(to)).unwrap();
        }
        by_server(dial(client(&foreign, day(1)), server()), "usage");
        let trusting = work.server(&format!("authority/{ca}-ca.crt"), day(1));
        by_server(dial(client(&foreign, day(1)), trusting), "usage");
    }

    // Servers: the runtime's own key, another control plane, and a client's certificate.
    let runtime = work.server_of("certs", ADMINS, day(1));
    by_client(dial(client(&certs, day(1)), runtime), "UnknownIssuer");
    let impostor = other.server(ADMINS, day(1));
    by_client(dial(client(&certs, day(1)), impostor), "UnknownIssuer");
    let posing = work.path("posing");
    fs::create_dir(&posing).unwrap();
    for (from, to) in [("client.crt", "server.crt"), ("client.key", "server.key")] {
        fs::copy(certs.join(from), posing.join(to)).unwrap();
    }
    fs::copy(work.path("authority/admin-ca.crt"), foreign.join("ca.crt")).unwrap();
    for file in ["client.crt", "client.key"] {
        fs::copy(certs.join(file), foreign.join(file)).unwrap();
    }
    let posing = work.server_of("posing", ADMINS, day(1));
    let result = dial(client(&foreign, day(1)), posing);
    assert!(matches!(result, Err(Refused::ByClient(_))), "{result:?}");
}

#[test]
fn times_are_kept() {
    let work = Work::new();
    let certs = work.path("certs");
    let attempt = |client_at, server_at| {
        handshake(
            client(&certs, client_at),
            work.server(ADMINS, server_at),
            "localhost",
        )
    };
    let shifted = |seconds: i64| {
        let begin = i64::try_from(BEGIN).unwrap() + seconds;
        UnixTime::since_unix_epoch(Duration::from_secs(begin.try_into().unwrap()))
    };
    assert_eq!(attempt(day(0), day(0)), Ok(()));
    assert_eq!(attempt(shifted(-BACKDATED), shifted(-BACKDATED)), Ok(()));
    assert_eq!(attempt(day(90), day(90)), Ok(()));
    by_server(attempt(day(90), day(91)), "certificate expired");
    by_client(attempt(day(91), day(90)), "certificate expired");
    let early = shifted(-BACKDATED - 1);
    by_server(attempt(day(0), early), "not valid yet");
    by_client(attempt(early, day(0)), "not valid yet");

    let server = work.details("control-plane/server.crt");
    let begin = i64::try_from(BEGIN).unwrap();
    assert_eq!(server.not_before, begin - 300);
    assert_eq!(server.not_after, begin + 90 * 86_400);
    let ca = work.details("authority/server-ca.crt");
    assert_eq!(ca.not_before, begin - 300);
    assert_eq!(ca.not_after, begin + 3_650 * 86_400);
}

#[test]
fn a_certificate_ends_with_its_ca() {
    let work = Work::new();
    let issue = Issue::new("late".parse().unwrap());
    work.layout.issue(&issue, day(3_640)).unwrap();
    let late = work.details("clients/late/client.crt");
    assert_eq!(
        late.not_after,
        work.details("authority/admin-ca.crt").not_after
    );
    let issue = Issue::new("later".parse().unwrap());
    let error = work.layout.issue(&issue, day(3_651)).unwrap_err();
    assert!(error.to_string().contains("has expired"), "{error}");
    assert!(!work.path("clients/later").exists());
}

#[test]
fn everything_differs_from_everything() {
    let work = Work::new();
    work.issue("ann", "admin");
    work.issue("olga", "operator");
    let paths = [
        "authority/server-ca.crt",
        "authority/runtime-ca.crt",
        "authority/admin-ca.crt",
        "authority/operator-ca.crt",
        "control-plane/server.crt",
        "certs/server.crt",
        "certs/client.crt",
        "clients/ann/client.crt",
        "clients/olga/client.crt",
    ];
    let all: Vec<_> = paths.iter().map(|path| work.details(path)).collect();
    let distinct = |of: fn(&Details) -> String| {
        let mut all: Vec<_> = all.iter().map(of).collect();
        all.sort();
        all.dedup();
        all.len()
    };
    assert_eq!(distinct(|details| details.serial.clone()), paths.len());
    assert_eq!(
        distinct(|details| details.key_fingerprint.clone()),
        paths.len()
    );
    assert_eq!(distinct(|details| details.subject.clone()), paths.len());
    for details in &all {
        assert_eq!(details.serial.len(), 32, "{details:?}");
        assert_eq!(details.key, "ECDSA P-256");
        assert!(details.key_id.is_some(), "{details:?}");
        assert_eq!(
            details.is_ca,
            details.subject.contains(" CA "),
            "{details:?}"
        );
    }
    // Which CA issued what is told by the key identifiers.
    for (leaf, ca) in [(4, 0), (5, 1), (6, 2), (7, 2), (8, 3)] {
        assert_eq!(
            all[leaf].authority_key_id, all[ca].key_id,
            "{}",
            paths[leaf]
        );
        assert_eq!(all[leaf].issuer, all[ca].subject);
    }
    // The control plane's CA is not the runtime's, and no CA's key is where runtime or clients read.
    assert_eq!(work.details("certs/ca.crt"), all[0]);
    assert_eq!(work.details(ADMINS), all[2]);
    for folder in ["certs", "control-plane", "clients/ann"] {
        for file in fs::read_dir(work.path(folder)).unwrap() {
            let text = fs::read(file.unwrap().path()).unwrap();
            for stem in ["server", "runtime", "admin", "operator"] {
                let key = fs::read(work.path(&format!("authority/{stem}-ca.key"))).unwrap();
                assert_ne!(text, key, "{folder}");
            }
        }
    }
}

#[test]
fn a_second_init_changes_nothing() {
    let work = Work::new();
    let before = contents(work.folder.path());
    let error = work.layout.init(&Init::default(), day(1)).unwrap_err();
    assert!(matches!(error, IssueError::Exists { .. }), "{error}");
    assert!(error.to_string().contains("--force"), "{error}");
    assert_eq!(contents(work.folder.path()), before);

    // One file is enough, and nothing appears beside it.
    let folder = tempfile::tempdir().unwrap();
    fs::create_dir(folder.path().join("certs")).unwrap();
    fs::write(folder.path().join("certs/client.key"), "mine").unwrap();
    let before = contents(folder.path());
    let layout = Layout::new(folder.path());
    assert!(layout.init(&Init::default(), day(1)).is_err());
    assert_eq!(contents(folder.path()), before);

    let mut init = Init::default();
    init.force = true;
    layout.init(&init, day(1)).unwrap();
    assert_eq!(layout.status(day(1)).verdict(), Verdict::Fine);
    work.layout.init(&init, day(1)).unwrap();
    assert_eq!(work.layout.status(day(1)).verdict(), Verdict::Fine);
}

/// All files under a folder with their contents.
fn contents(folder: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let mut all = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            all.push((path.clone(), Vec::new()));
            all.extend(contents(&path));
        } else {
            all.push((path.clone(), fs::read(path).unwrap()));
        }
    }
    all.sort();
    all
}

#[test]
fn ages_are_told() {
    let details = Work::new().details("certs/client.crt");
    // It lives 90 days and five minutes; a third of that is 30 days and 100 seconds.
    let at = |seconds: u64| UnixTime::since_unix_epoch(Duration::from_secs(BEGIN + seconds));
    assert_eq!(details.age(at(0)), Age::Fresh);
    assert_eq!(details.age(at(60 * DAY - 100)), Age::Fresh);
    assert_eq!(details.age(at(60 * DAY - 99)), Age::Due);
    assert_eq!(details.age(at(90 * DAY)), Age::Due);
    assert_eq!(details.age(at(90 * DAY + 1)), Age::Expired);
    let early = UnixTime::since_unix_epoch(Duration::from_secs(BEGIN - 301));
    assert_eq!(details.age(early), Age::NotYet);
    assert_eq!(
        details.age(UnixTime::since_unix_epoch(Duration::MAX)),
        Age::Expired
    );

    let ca = Work::new().details("authority/server-ca.crt");
    assert_eq!(ca.age(day(3_284)), Age::Fresh);
    assert_eq!(ca.age(day(3_286)), Age::Due);
    assert_eq!(ca.age(day(3_651)), Age::Expired);
}

fn problems(work: &Work, at: UnixTime) -> Vec<(PathBuf, Verdict, String)> {
    let status = work.layout.status(at);
    let checks = status.checks.into_iter().filter_map(|check| {
        let problem = check.problem?;
        assert!(
            check
                .advice
                .is_some_and(|advice| advice.contains("selium cert") || advice.contains("bundle"))
        );
        let path = check.path.strip_prefix(work.folder.path()).unwrap();
        Some((path.to_owned(), check.verdict, problem))
    });
    checks.collect()
}

#[test]
fn the_status_follows_the_time() {
    let work = Work::new();
    let verdict = |at| work.layout.status(at).verdict();
    assert_eq!(verdict(day(0)), Verdict::Fine);
    assert_eq!(verdict(day(59)), Verdict::Fine);
    assert_eq!(verdict(day(60)), Verdict::Due);
    assert_eq!(verdict(day(91)), Verdict::Unusable);
    let early = UnixTime::since_unix_epoch(Duration::from_secs(BEGIN - 3_600));
    assert_eq!(verdict(early), Verdict::Unusable);
    assert_eq!(problems(&work, day(0)), []);
    let due = problems(&work, day(60));
    assert_eq!(due.len(), 3, "{due:?}");
    for (path, verdict, problem) in due {
        assert_eq!(verdict, Verdict::Due, "{path:?}");
        assert!(problem.contains("a third"), "{problem}");
    }
}

#[test]
fn the_status_sees_every_damage() {
    type Damage = fn(&Path);
    let damages: [(&str, &str, Damage); 12] = [
        ("certs/client.key", "is missing", |p| {
            fs::remove_file(p).unwrap()
        }),
        ("certs/client.crt", "is missing", |p| {
            fs::remove_file(p).unwrap()
        }),
        ("certs/ca.crt", "is missing", |p| {
            fs::remove_file(p).unwrap()
        }),
        ("certs/client.crt", "is empty", |p| {
            fs::write(p, "").unwrap()
        }),
        ("certs/client.key", "is damaged", truncate),
        ("control-plane/server.crt", "is damaged", truncate),
        ("control-plane/clients-admin.crt", "is damaged", truncate),
        ("certs/client.crt", "cannot be used", garble),
        ("certs/server.key", "is missing", |p| {
            fs::remove_file(p).unwrap()
        }),
        ("authority/admin-ca.key", "is missing", |p| {
            fs::remove_file(p).unwrap()
        }),
        ("certs/ca.crt", "not issued by a CA in", |p| {
            fs::copy(p.with_file_name("../authority/runtime-ca.crt"), p).unwrap();
        }),
        ("certs/client.key", "does not belong to it", |p| {
            fs::copy(p.with_file_name("server.key"), p).unwrap();
        }),
    ];
    for (file, problem, damage) in damages {
        let work = Work::new();
        damage(&work.path(file));
        assert_eq!(
            work.layout.status(day(1)).verdict(),
            Verdict::Unusable,
            "{file}"
        );
        let found = problems(&work, day(1));
        assert!(
            found
                .iter()
                .any(|(_, verdict, text)| *verdict == Verdict::Unusable
                    && (text.contains(problem) || text.contains("is damaged"))),
            "{file}, {problem}: {found:?}"
        );
    }
}

fn truncate(path: &Path) {
    let text = fs::read(path).unwrap();
    fs::write(path, &text[..text.len() / 2]).unwrap();
}

/// Another certificate in good PEM that is none.
fn garble(path: &Path) {
    fs::write(
        path,
        "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
    )
    .unwrap();
}

#[test]
fn the_wrong_kind_is_noticed() {
    let work = Work::new();
    for (from, to) in [("server.crt", "client.crt"), ("server.key", "client.key")] {
        fs::copy(
            work.path("control-plane").join(from),
            work.path("certs").join(to),
        )
        .unwrap();
    }
    let found = problems(&work, day(1));
    assert_eq!(found.len(), 1, "{found:?}");
    assert!(
        found[0].2.contains("not for a client but for: server"),
        "{found:?}"
    );

    let work = Work::new();
    let other = Work::new();
    for file in ["client.crt", "client.key"] {
        fs::copy(
            other.path("certs").join(file),
            work.path("certs").join(file),
        )
        .unwrap();
    }
    let found = problems(&work, day(1));
    assert!(found[0].2.contains("not issued by a CA in"), "{found:?}");
    assert!(found[0].2.contains("clients-*.crt"), "{found:?}");
}

#[test]
fn a_directory_elsewhere_is_looked_at_alone() {
    let work = Work::new();
    let other = Work::new();
    let layout = work.layout.clone().with_certs(other.path("certs"));
    let status = layout.status(day(1));
    assert_eq!(status.verdict(), Verdict::Fine, "{status:?}");
    assert!(
        status
            .checks
            .iter()
            .all(|check| check.path.starts_with(other.folder.path()))
    );
    let status = Layout::new("/nonexistent").status(day(1));
    assert_eq!(status.verdict(), Verdict::Unusable);
}

fn all_that_is_renewed(work: &Work) -> Vec<Details> {
    [
        "certs/client.crt",
        "certs/server.crt",
        "control-plane/server.crt",
    ]
    .map(|path| work.details(path))
    .to_vec()
}

#[test]
fn renewing_makes_new_certificates_that_work() {
    let mut init = Init::default();
    init.hosts = vec!["selium.example.org".parse().unwrap()];
    let work = Work::with(&init);
    let before = all_that_is_renewed(&work);
    let mut renew = Renew::default();
    renew.if_needed = true;
    let outcome = work.layout.renew(&renew, day(59)).unwrap();
    assert_eq!(outcome.files, [] as [PathBuf; 0]);
    assert_eq!(all_that_is_renewed(&work), before);

    let outcome = work.layout.renew(&renew, day(60)).unwrap();
    assert_eq!(outcome.certificates.len(), 3);
    assert!(outcome.warnings.is_empty() && outcome.failures.is_empty());
    let after = all_that_is_renewed(&work);
    for (old, new) in before.iter().zip(&after) {
        assert_ne!(old.serial, new.serial);
        assert_ne!(old.key_fingerprint, new.key_fingerprint);
        assert_eq!(
            (&old.subject, &old.issuer, old.hosts()),
            (&new.subject, &new.issuer, new.hosts())
        );
        assert_eq!(
            new.not_after - old.not_after,
            60 * 86_400,
            "as long as before"
        );
    }
    assert_eq!(work.layout.status(day(100)).verdict(), Verdict::Fine);
    let result = handshake(
        client(&work.path("certs"), day(149)),
        work.server(ADMINS, day(149)),
        "selium.example.org",
    );
    assert_eq!(result, Ok(()));
    // The copies follow.
    assert_eq!(work.details("authority/issued/admin.crt"), after[0]);
    assert_eq!(work.details("authority/issued/runtime.crt"), after[1]);
    assert_eq!(work.details("authority/issued/server.crt"), after[2]);

    renew = Renew::default();
    renew.keep_key = true;
    renew.days = Some(7);
    renew.name = Some(Name::admin());
    let key = fs::read(work.path("certs/client.key")).unwrap();
    work.layout.renew(&renew, day(60)).unwrap();
    let kept = all_that_is_renewed(&work);
    assert_eq!(kept[1..], after[1..]);
    assert_eq!(kept[0].key_fingerprint, after[0].key_fingerprint);
    assert_ne!(kept[0].serial, after[0].serial);
    assert_eq!(fs::read(work.path("certs/client.key")).unwrap(), key);
    assert_eq!(kept[0].not_after - kept[0].not_before, 7 * 86_400 + 300);
}

#[test]
fn a_server_gets_other_names_when_it_is_renewed() {
    let mut init = Init::default();
    init.hosts = vec!["old.example.org".parse().unwrap()];
    let work = Work::with(&init);
    let mut renew = Renew::default();
    renew.name = Some("server".parse().unwrap());
    renew.hosts = ["new.example.org", "10.0.0.8"]
        .map(|host| host.parse().unwrap())
        .to_vec();
    renew.if_needed = true;
    let outcome = work.layout.renew(&renew, day(1)).unwrap();
    assert_eq!(outcome.certificates.len(), 1, "{outcome:?}");
    let names = [
        "localhost",
        "new.example.org",
        "127.0.0.1",
        "::1",
        "10.0.0.8",
    ];
    assert_eq!(work.details("control-plane/server.crt").hosts(), names);
    assert_eq!(
        work.details("certs/server.crt").hosts()[1],
        "old.example.org"
    );
    let outcome = work.layout.renew(&renew, day(1)).unwrap();
    assert!(outcome.files.is_empty(), "{outcome:?}");
    let result = handshake(
        client(&work.path("certs"), day(1)),
        work.server(ADMINS, day(1)),
        "10.0.0.8",
    );
    assert_eq!(result, Ok(()));
}

#[test]
fn renewing_repairs_what_can_be_told() {
    for (damaged, other) in [
        ("certs/client.crt", None),
        ("certs/client.key", Some("certs/server.key")),
        ("certs/server.crt", None),
        ("certs/server.key", None),
        ("control-plane/server.crt", None),
        ("control-plane/server.key", Some("certs/client.key")),
    ] {
        let work = Work::new();
        match other {
            Some(other) => drop(fs::copy(work.path(other), work.path(damaged)).unwrap()),
            None => fs::write(work.path(damaged), "").unwrap(),
        }
        assert_eq!(
            work.layout.status(day(1)).verdict(),
            Verdict::Unusable,
            "{damaged}"
        );
        let mut renew = Renew::default();
        renew.if_needed = true;
        let outcome = work.layout.renew(&renew, day(1)).unwrap();
        assert_eq!(outcome.certificates.len(), 1, "{damaged}: {outcome:?}");
        let status = work.layout.status(day(1));
        assert_eq!(status.verdict(), Verdict::Fine, "{damaged}: {status:?}");
    }

    // Neither certificate nor key says whose it was.
    let work = Work::new();
    for file in ["client.crt", "client.key"] {
        fs::write(work.path("certs").join(file), "").unwrap();
    }
    let outcome = work.layout.renew(&Renew::default(), day(1)).unwrap();
    assert_eq!(outcome.certificates.len(), 2);
    assert_eq!(outcome.failures.len(), 1);
    assert!(
        outcome.failures[0].contains("selium cert issue"),
        "{outcome:?}"
    );
}

#[test]
fn what_is_not_ours_is_left_alone() {
    let work = Work::new();
    let other = Work::new();
    for file in ["client.crt", "client.key"] {
        fs::copy(
            other.path("certs").join(file),
            work.path("certs").join(file),
        )
        .unwrap();
    }
    let outcome = work.layout.renew(&Renew::default(), day(80)).unwrap();
    assert_eq!(outcome.certificates.len(), 2);
    assert_eq!(outcome.warnings.len(), 1);
    assert!(outcome.warnings[0].contains("left as it is"), "{outcome:?}");
    assert_eq!(
        work.details("certs/client.crt"),
        other.details("certs/client.crt")
    );

    // A server's name cannot be had by putting a certificate with it in the place of ours.
    fs::copy(
        other.path("control-plane/server.crt"),
        work.path("control-plane/server.crt"),
    )
    .unwrap();
    let outcome = work.layout.renew(&Renew::default(), day(80)).unwrap();
    assert_eq!(outcome.certificates.len(), 1, "{outcome:?}");
}

#[test]
fn the_authority_can_be_elsewhere_and_must_be_somewhere() {
    let work = Work::new();
    let safe = work.path("safe");
    fs::rename(work.path("authority"), &safe).unwrap();
    assert_eq!(work.layout.status(day(1)).verdict(), Verdict::Fine);
    for error in [
        work.layout.renew(&Renew::default(), day(1)).unwrap_err(),
        work.layout
            .issue(&Issue::new("ann".parse().unwrap()), day(1))
            .unwrap_err(),
        work.layout.list().unwrap_err(),
    ] {
        assert!(matches!(error, IssueError::NoAuthority { .. }), "{error}");
        assert!(error.to_string().contains("--authority"), "{error}");
    }
    assert!(!work.path("authority").exists());
    let layout = work.layout.clone().with_authority(&safe);
    layout
        .issue(&Issue::new("ann".parse().unwrap()), day(1))
        .unwrap();
    layout.renew(&Renew::default(), day(1)).unwrap();
    assert_eq!(layout.list().unwrap().len(), 4);
}

#[test]
fn what_was_issued_is_listed() {
    let work = Work::new();
    work.issue("olga", "operator");
    fs::write(work.path("authority/issued/torn.crt"), "").unwrap();
    fs::write(work.path("authority/issued/..crt"), "").unwrap();
    let listed: Vec<_> = work
        .layout
        .list()
        .unwrap()
        .into_iter()
        .map(|entry| {
            (
                entry.name.to_string(),
                entry.role,
                entry.certificate.is_ok(),
            )
        })
        .collect();
    let entry = |name: &str, role: Option<&str>, ok| (name.to_owned(), role.map(str::to_owned), ok);
    assert_eq!(
        listed,
        [
            entry("admin", Some("admin"), true),
            entry("olga", Some("operator"), true),
            entry("runtime", Some("runtime"), true),
            entry("server", Some("server"), true),
            entry("torn", None, false),
        ]
    );
}

#[test]
fn names_are_given_once() {
    let work = Work::new();
    work.issue("ann", "admin");
    let before = contents(work.folder.path());
    let mut issue = Issue::new("ann".parse().unwrap());
    let error = work.layout.issue(&issue, day(1)).unwrap_err();
    assert!(matches!(error, IssueError::Exists { .. }), "{error}");
    issue.out = Some(work.path("elsewhere"));
    assert!(
        work.layout.issue(&issue, day(1)).is_err(),
        "the copy says that it was issued"
    );
    issue.role = "viewer".parse().unwrap();
    assert!(work.layout.issue(&issue, day(1)).is_err());
    assert_eq!(
        contents(work.folder.path()),
        before,
        "not even a CA for the role"
    );
    issue.force = true;
    work.layout.issue(&issue, day(1)).unwrap();
    for reserved in ["server", "Runtime"] {
        let error = work
            .layout
            .issue(&Issue::new(reserved.parse().unwrap()), day(1))
            .unwrap_err();
        assert!(error.to_string().contains("stands for a server"), "{error}");
    }
}

#[test]
fn a_role_changes_its_ca_without_a_gap() {
    let work = Work::new();
    let old = work.path("certs");
    for end in ["crt", "key"] {
        let file = work.path(&format!("authority/admin-ca.{end}"));
        fs::rename(&file, work.path(&format!("old-ca.{end}"))).unwrap();
    }
    let new = work.issue("ann", "admin");
    assert_eq!(chain(&work.path(ADMINS)).len(), 2);
    let dial = |folder: &Path| {
        handshake(
            client(folder, day(1)),
            work.server(ADMINS, day(1)),
            "localhost",
        )
    };
    assert_eq!((dial(&old), dial(&new)), (Ok(()), Ok(())));
    assert_eq!(work.layout.status(day(1)).verdict(), Verdict::Fine);
    fs::copy(work.path("authority/admin-ca.crt"), work.path(ADMINS)).unwrap();
    by_server(dial(&old), "UnknownIssuer");
    assert_eq!(dial(&new), Ok(()));
    assert_eq!(work.layout.status(day(1)).verdict(), Verdict::Unusable);
}

#[test]
fn a_bundle_makes_the_same_directory_elsewhere() {
    let work = Work::new();
    let ann = work.issue("ann", "operator");
    let mut bundle = Bundle::new("ann".parse().unwrap());
    bundle.out = Some(work.path("ann.pem"));
    work.layout.bundle(&bundle, day(1)).unwrap();
    assert!(matches!(
        work.layout.bundle(&bundle, day(1)),
        Err(IssueError::Exists { .. })
    ));
    let text = fs::read_to_string(work.path("ann.pem")).unwrap();
    assert!(
        text.starts_with("Selium client certificate of ann, with its PRIVATE KEY."),
        "{text}"
    );
    assert!(text.contains("selium cert import"), "{text}");

    let there = work.path("there/certs");
    import(&Import::new(work.path("ann.pem"), &there), day(1)).unwrap();
    assert_eq!(contents(&there).len(), 3);
    for file in ["ca.crt", "client.crt", "client.key"] {
        assert_eq!(
            fs::read(ann.join(file)).unwrap(),
            fs::read(there.join(file)).unwrap(),
            "{file}"
        );
    }
    let operators = work.server("control-plane/clients-operator.crt", day(1));
    assert_eq!(
        handshake(client(&there, day(1)), operators, "localhost"),
        Ok(())
    );
    let again = import(&Import::new(work.path("ann.pem"), &there), day(1));
    assert!(matches!(again, Err(IssueError::Exists { .. })), "{again:?}");

    // What was made for somebody keeps its key, so that the certificate is all they need.
    let before = details(&ann.join("client.crt"));
    let outcome = work.layout.renew(&Renew::default(), day(2)).unwrap();
    assert!(
        outcome
            .notes
            .iter()
            .any(|note| note.contains("authority/issued/ann.crt"))
    );
    let after = details(&ann.join("client.crt"));
    assert_ne!(before.serial, after.serial);
    assert_eq!(before.key_fingerprint, after.key_fingerprint);

    // The same where nothing but the copy is left.
    fs::remove_dir_all(&ann).unwrap();
    let mut renew = Renew::default();
    renew.name = Some("ann".parse().unwrap());
    let outcome = work.layout.renew(&renew, day(70)).unwrap();
    let copy = work.path("authority/issued/ann.crt");
    assert_eq!(outcome.files, std::slice::from_ref(&copy));
    assert!(!fs::read_to_string(&copy).unwrap().contains("PRIVATE"));
    let key = fs::read(there.join("client.key")).unwrap();
    import(&Import::new(&copy, &there), day(70)).unwrap();
    assert_eq!(details(&there.join("client.crt")), outcome.certificates[0]);
    assert_eq!(fs::read(there.join("client.key")).unwrap(), key);
    let operators = work.server("control-plane/clients-operator.crt", day(150));
    let mut server_day = operators;
    server_day.time_provider = Arc::new(At(day(150)));
    // The server's own has expired by then, which is the client's to judge: it looks at day 80.
    assert_eq!(
        handshake(client(&there, day(80)), server_day, "localhost"),
        Ok(())
    );
}

#[test]
fn what_is_no_bundle_is_refused() {
    let work = Work::new();
    work.issue("ann", "admin");
    let mut bundle = Bundle::new("ann".parse().unwrap());
    bundle.out = Some(work.path("ann.pem"));
    work.layout.bundle(&bundle, day(1)).unwrap();
    let whole = fs::read_to_string(work.path("ann.pem")).unwrap();
    let read = |file: &str| fs::read_to_string(work.path(file)).unwrap();
    let (ca, key) = (read("certs/ca.crt"), read("certs/client.key"));
    let cases = [
        ("empty", String::new(), "is empty"),
        (
            "words",
            "hello".to_owned(),
            "neither a certificate nor a private key",
        ),
        ("torn", whole[..whole.len() / 2].to_owned(), ""),
        (
            "two keys",
            format!("{whole}{key}"),
            "more than one private key",
        ),
        (
            "another's key",
            format!("{ca}{}{key}", read("clients/ann/client.crt")),
            "does not belong",
        ),
        (
            "no CA",
            format!("{}{key}", read("certs/client.crt")),
            "no certificate of a CA",
        ),
        ("only a CA", ca, "has no private key"),
        ("only a key", key, "does not belong"),
    ];
    for (what, text, why) in cases {
        fs::write(work.path("x.pem"), text).unwrap();
        let there = work.path("there");
        let error = import(&Import::new(work.path("x.pem"), &there), day(1)).unwrap_err();
        assert!(error.to_string().contains(why), "{what}: {error}");
        assert!(!there.exists(), "{what}");
        assert!(!error.to_string().contains("MIG"), "{what}: {error}");
    }
    let error = import(
        &Import::new(work.path("ann.pem"), work.path("there")),
        day(91),
    )
    .unwrap_err();
    assert!(error.to_string().contains("has expired"), "{error}");
    let error = work
        .layout
        .bundle(&Bundle::new("bob".parse().unwrap()), day(1))
        .unwrap_err();
    assert!(
        error.to_string().contains("selium cert issue bob"),
        "{error}"
    );

    // A certificate for another key is no renewal.
    let there = work.path("there");
    import(&Import::new(work.path("ann.pem"), &there), day(1)).unwrap();
    let copy = work.path("authority/issued/admin.crt");
    let error = import(&Import::new(copy, &there), day(1)).unwrap_err();
    assert!(error.to_string().contains("is not for the key"), "{error}");
    let copy = work.path("authority/issued/ann.crt");
    let error = import(&Import::new(copy, &there), day(1)).unwrap_err();
    assert!(error.to_string().contains("does not end before"), "{error}");
}

#[test]
fn one_ca_for_everything_works_and_is_explained() {
    // As the runtime's generate-certs makes it.
    use rcgen::{
        BasicConstraints, CertificateParams, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    };
    let folder = tempfile::tempdir().unwrap();
    let certs = folder.path().join("certs");
    fs::create_dir(&certs).unwrap();
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::new(vec![]).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    fs::write(
        certs.join("ca.crt"),
        params.self_signed(&key).unwrap().pem(),
    )
    .unwrap();
    fs::write(certs.join("ca.key"), key.serialize_pem()).unwrap();
    let issuer = Issuer::new(params, key);
    for (file, name, usage) in [
        ("server", "localhost", ExtendedKeyUsagePurpose::ServerAuth),
        ("client", "client", ExtendedKeyUsagePurpose::ClientAuth),
    ] {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        params.is_ca = IsCa::ExplicitNoCa;
        params.extended_key_usages = vec![usage];
        let certificate = params.signed_by(&key, &issuer).unwrap();
        fs::write(certs.join(format!("{file}.crt")), certificate.pem()).unwrap();
        fs::write(certs.join(format!("{file}.key")), key.serialize_pem()).unwrap();
    }
    let status = Layout::new(folder.path()).status(day(0));
    assert_eq!(status.verdict(), Verdict::Fine, "{status:?}");
    assert_eq!(status.notes.len(), 1);
    for part in [
        "one CA",
        "role admin only",
        "pose as the control plane",
        "selium cert init",
    ] {
        assert!(status.notes[0].contains(part), "{status:?}");
    }
    assert!(
        status
            .warnings
            .iter()
            .any(|warning| warning.contains("ca.key")),
        "{status:?}"
    );
    let (items, status) = inspect(&certs).unwrap();
    assert_eq!(items.len(), 6);
    assert_eq!(status.notes.len(), 1, "{status:?}");

    // Ours has no such note.
    let work = Work::new();
    assert!(work.layout.status(day(0)).notes.is_empty());
    let (items, status) = inspect(&work.path("certs")).unwrap();
    assert!(
        status.notes.is_empty() && status.warnings.is_empty(),
        "{status:?}"
    );
    let keys = items
        .iter()
        .filter(|item| matches!(item.contents, Contents::Key(_)));
    assert_eq!((items.len(), keys.count()), (5, 2));
}

#[test]
fn nothing_of_a_key_is_in_a_debug_text_or_an_error() {
    let work = Work::new();
    let key = fs::read_to_string(work.path("certs/client.key")).unwrap();
    let secret = key.lines().nth(1).unwrap().to_owned();
    let (items, status) = inspect(&work.path("certs")).unwrap();
    let mut said = vec![
        format!("{items:?}{status:?}"),
        format!("{:?}", work.layout.status(day(0))),
    ];
    fs::write(
        work.path("certs/client.key"),
        format!("{key}{key}").replace("-----END", "---END"),
    )
    .unwrap();
    said.push(format!("{:?}", work.layout.status(day(0))));
    let mut renew = Renew::default();
    renew.keep_key = true;
    said.push(format!("{:?}", work.layout.renew(&renew, day(0))));
    let mut bundle = Bundle::new(Name::admin());
    bundle.from = Some(work.path("certs"));
    said.push(format!("{:?}", work.layout.bundle(&bundle, day(0))));
    said.push(format!(
        "{:?}",
        import(
            &Import::new(work.path("certs/client.key"), work.path("x")),
            day(0)
        )
    ));
    for text in said {
        for start in 0..secret.len() - 16 {
            assert!(!text.contains(&secret[start..start + 16]), "{text}");
        }
    }
}

#[test]
fn roles_have_their_own_cas() {
    let work = Work::new();
    work.issue("olga", "operator");
    work.issue("vera", "viewer");
    let again = work.details("authority/operator-ca.crt");
    work.issue("otto", "operator");
    assert_eq!(work.details("authority/operator-ca.crt"), again);
    assert_eq!(
        chain(&work.path("control-plane/clients-operator.crt")).len(),
        1
    );
    let role: Role = "viewer".parse().unwrap();
    assert_eq!(
        work.layout.clients_of(&role),
        work.path("control-plane/clients-viewer.crt")
    );
    assert_eq!(
        details(&work.layout.clients_of(&role)),
        work.details("authority/viewer-ca.crt")
    );
}
