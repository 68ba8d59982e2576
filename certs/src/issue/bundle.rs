//! Handing what was issued over, and taking it in.

use std::path::{Path, PathBuf};

use rustls_pki_types::{CertificateDer, PrivateKeyDer, UnixTime, pem::SectionKind};
use zeroize::Zeroizing;

use super::{
    IssueError, Layout, Outcome,
    details::{self, Age, Chain, Details, KeyDetails},
    error::fact,
    init::{existing, refuse_present},
    name::Name,
    pem_certificate, pem_key,
    write::{self, Batch, Existing, Kind},
};
use crate::{CA_FILE, CLIENT_CERTIFICATE_FILE, CLIENT_KEY_FILE, file};

/// What [`Layout::bundle`] is to make.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Bundle {
    /// Whose.
    pub name: Name,
    /// Where it lies, instead of where `issue` puts it.
    pub from: Option<PathBuf>,
    /// The file to write, instead of `NAME.bundle.pem` in the present folder.
    pub out: Option<PathBuf>,
    /// Whether to replace what is there.
    pub force: bool,
}

impl Bundle {
    /// A bundle of what was issued to somebody.
    #[must_use]
    pub fn new(name: Name) -> Self {
        Self {
            name,
            from: None,
            out: None,
            force: false,
        }
    }
}

impl Layout {
    /// Puts somebody's certificate directory into one file, with the private key.
    ///
    /// # Errors
    /// When it is not here or incomplete, or the file is there already.
    pub fn bundle(&self, bundle: &Bundle, now: UnixTime) -> Result<Outcome, IssueError> {
        let name = &bundle.name;
        let from = match &bundle.from {
            Some(from) => from.clone(),
            None => self.held(name)?,
        };
        let advice = || {
            format!(
                "`selium cert issue {name}` makes a certificate directory, --from DIR names another one"
            )
        };
        let read = |file: &str| {
            details::chain(&from.join(file)).map_err(|what| IssueError::File {
                what,
                advice: advice(),
            })
        };
        let (roots, chain) = (read(CA_FILE)?, read(CLIENT_CERTIFICATE_FILE)?);
        let (key, public, _) =
            details::key(&from.join(CLIENT_KEY_FILE)).map_err(|what| IssueError::File {
                what,
                advice: advice(),
            })?;
        let leaf = usable(&chain, &public, &from, now)?;
        if leaf.common_name.as_deref() != Some(name.as_str()) {
            return Err(IssueError::Refused(format!(
                "the certificate in {} is not of {name}: name the right folder with --from DIR",
                from.display()
            )));
        }
        let text = text(name, &leaf, &roots, &chain, &key);
        let out = bundle
            .out
            .clone()
            .unwrap_or_else(|| PathBuf::from(format!("{name}.bundle.pem")));
        let mut batch = Batch::default();
        batch.stage(out, text.as_bytes(), Kind::Key, existing(bundle.force))?;
        Ok(Outcome {
            files: batch.commit()?,
            certificates: vec![leaf],
            ..Outcome::default()
        })
    }

    /// Where somebody's key lies: where `issue` puts it, or with the first client.
    fn held(&self, name: &Name) -> Result<PathBuf, IssueError> {
        let own = self.client(name);
        if own.is_dir() {
            return Ok(own);
        }
        let certs = self.certs().to_owned();
        let chain = details::chain(&certs.join(CLIENT_CERTIFICATE_FILE)).ok();
        let leaf = chain.as_ref().and_then(details::leaf);
        if leaf.and_then(|leaf| leaf.common_name.as_deref()) == Some(name.as_str()) {
            return Ok(certs);
        }
        Err(IssueError::Refused(format!(
            "there is no folder {}: `selium cert issue {name}` makes one, --from DIR names another one",
            own.display()
        )))
    }
}

/// The text of a bundle.
fn text(
    name: &Name,
    leaf: &Details,
    roots: &Chain,
    chain: &Chain,
    key: &PrivateKeyDer<'_>,
) -> Zeroizing<String> {
    let key = pem_key(key);
    let certificates =
        |chain: &Chain| -> String { chain.iter().map(|(der, _)| pem_certificate(der)).collect() };
    let (roots, chain) = (certificates(roots), certificates(chain));
    let head = format!(
        "Selium client certificate of {name}, with its PRIVATE KEY.\n\
         Whoever has this file can act as {name}: send it over a safe way only, and delete it when it is imported.\n\
         Import: selium cert import {name}.bundle.pem --cert-dir DIR\n\
         SHA-256 of the certificate: {}\n",
        leaf.fingerprint
    );
    let parts = [
        head.as_str(),
        "\nThe client's certificate (client.crt):\n",
        &chain,
        "\nIts private key (client.key):\n",
        &key,
        "\nThe CA of the server (ca.crt):\n",
        &roots,
    ];
    // Room for all of it from the start: a text that grows leaves copies behind.
    let mut text = Zeroizing::new(String::with_capacity(
        parts.iter().map(|part| part.len()).sum(),
    ));
    for part in parts {
        text.push_str(part);
    }
    text
}

/// The client's own certificate, if it fits the key and has not expired.
fn usable(
    chain: &Chain,
    public: &KeyDetails,
    from: &Path,
    now: UnixTime,
) -> Result<Details, IssueError> {
    let leaf = details::leaf(chain).filter(|leaf| leaf.public_key == public.public_key);
    let Some(leaf) = leaf else {
        return Err(IssueError::Refused(format!(
            "the private key in {} does not belong to the certificate",
            from.display()
        )));
    };
    match leaf.age(now) {
        Age::Expired => Err(IssueError::Refused(format!(
            "the certificate in {} has expired: have it renewed (`selium cert renew`)",
            from.display()
        ))),
        Age::NotYet | Age::Fresh | Age::Due => Ok(leaf.clone()),
    }
}

/// What [`import`] is to do.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Import {
    /// The bundle, or a renewed certificate.
    pub file: PathBuf,
    /// The certificate directory to write.
    pub directory: PathBuf,
    /// Whether to replace what is there.
    pub force: bool,
}

impl Import {
    /// From a file into a certificate directory.
    #[must_use]
    pub fn new(file: impl Into<PathBuf>, directory: impl Into<PathBuf>) -> Self {
        Self {
            file: file.into(),
            directory: directory.into(),
            force: false,
        }
    }
}

/// Takes a bundle in as a certificate directory; or a renewed certificate, without key, as the successor of the one
/// that is there, if it is for the same key and ends later.
///
/// # Errors
/// When the file is no such thing, does not fit together or has expired, or something is there already.
pub fn import(import: &Import, now: UnixTime) -> Result<Outcome, IssueError> {
    let (text, metadata) = read(&import.file)?;
    let sections = file::sections(&import.file, &text)
        .map_err(|error| IssueError::file(&error, "ask for it again"))?;
    let mut certificates: Chain = Vec::new();
    let mut keys = Vec::new();
    for (kind, der) in sections {
        if kind == SectionKind::Certificate {
            let details = Details::parse(&der).map_err(|why| IssueError::File {
                what: format!(
                    "a certificate in {} is damaged ({why})",
                    import.file.display()
                ),
                advice: "ask for it again".to_owned(),
            })?;
            certificates.push((CertificateDer::from(der), details));
        } else if let Some(key) =
            <PrivateKeyDer<'static> as rustls_pki_types::pem::PemObject>::from_pem(kind, der)
        {
            keys.push(Zeroizing::new(key));
        }
    }
    match keys.as_slice() {
        [] => renewed(import, &certificates, now),
        [key] => {
            let mut outcome = whole(import, certificates, key, now)?;
            if let Some(warning) = file::open_to_others(&import.file, &metadata) {
                outcome.warnings.push(warning.to_string());
            }
            outcome.notes.push(format!(
                "{} contains the private key: delete it",
                import.file.display()
            ));
            Ok(outcome)
        }
        _ => Err(not_a_bundle(import, "it has more than one private key")),
    }
}

fn read(path: &Path) -> Result<(Zeroizing<Vec<u8>>, std::fs::Metadata), IssueError> {
    file::read(path).map_err(|error| IssueError::File {
        what: fact(&error),
        advice: "name a file that `selium cert bundle` made".to_owned(),
    })
}

fn not_a_bundle(import: &Import, why: &str) -> IssueError {
    IssueError::File {
        what: format!("{} cannot be imported: {why}", import.file.display()),
        advice: "`selium cert bundle NAME` makes such a file".to_owned(),
    }
}

/// Certificates and key.
fn whole(
    import: &Import,
    certificates: Chain,
    key: &PrivateKeyDer<'static>,
    now: UnixTime,
) -> Result<Outcome, IssueError> {
    let public = KeyDetails::of(&Zeroizing::new(key.clone_key()))
        .map_err(|why| not_a_bundle(import, &format!("the private key cannot be used ({why})")))?;
    let (roots, mut chain): (Chain, Chain) = certificates
        .into_iter()
        .partition(|(_, details)| details.is_ca && details.is_self_issued);
    // The client's own comes first, whatever the order in the file.
    chain.sort_by_key(|(_, details)| details.public_key != public.public_key);
    let leaf = usable(&chain, &public, &import.file, now)?;
    if roots.is_empty() {
        return Err(not_a_bundle(import, "it has no certificate of a CA"));
    }
    let files =
        [CA_FILE, CLIENT_CERTIFICATE_FILE, CLIENT_KEY_FILE].map(|file| import.directory.join(file));
    let existing = existing(import.force);
    refuse_present(&files, existing)?;
    write::make_folder(&import.directory)?;
    let [ca_file, certificate, key_file] = files;
    let text =
        |chain: &Chain| -> String { chain.iter().map(|(der, _)| pem_certificate(der)).collect() };
    let mut batch = Batch::default();
    batch.stage(key_file, pem_key(key).as_bytes(), Kind::Key, existing)?;
    batch.stage(
        certificate,
        text(&chain).as_bytes(),
        Kind::Certificate,
        existing,
    )?;
    batch.stage(
        ca_file,
        text(&roots).as_bytes(),
        Kind::Certificate,
        existing,
    )?;
    let mut outcome = Outcome {
        files: batch.commit()?,
        certificates: vec![leaf],
        ..Outcome::default()
    };
    outcome
        .certificates
        .extend(roots.into_iter().map(|(_, details)| details));
    outcome.warnings = super::status::open_folder(&import.directory)
        .into_iter()
        .collect();
    Ok(outcome)
}

/// A certificate alone: the successor of one that is there.
fn renewed(import: &Import, chain: &Chain, now: UnixTime) -> Result<Outcome, IssueError> {
    let key_file = import.directory.join(CLIENT_KEY_FILE);
    let Some(new) = details::leaf(chain) else {
        return Err(not_a_bundle(
            import,
            "it has neither a certificate nor a private key",
        ));
    };
    let (_, public, _) = details::key(&key_file).map_err(|what| IssueError::File {
        what: format!("{} has no private key, and {what}", import.file.display()),
        advice: "ask for a bundle with a key (`selium cert bundle NAME`)".to_owned(),
    })?;
    if new.public_key != public.public_key {
        return Err(IssueError::Refused(format!(
            "the certificate in {} is not for the key {}: ask for a bundle with a key, or name the right directory with \
             --cert-dir",
            import.file.display(),
            key_file.display()
        )));
    }
    usable(chain, &public, &import.file, now)?;
    let certificate = import.directory.join(CLIENT_CERTIFICATE_FILE);
    let old = details::chain(&certificate).ok();
    let ends = old
        .as_ref()
        .and_then(details::leaf)
        .map(|old| old.not_after);
    if ends.is_some_and(|ends| ends >= new.not_after) && !import.force {
        return Err(IssueError::Exists {
            paths: vec![certificate],
            advice: "it does not end before the new one; --force replaces it all the same"
                .to_owned(),
        });
    }
    let text: String = chain.iter().map(|(der, _)| pem_certificate(der)).collect();
    let mut batch = Batch::default();
    batch.stage(
        certificate,
        text.as_bytes(),
        Kind::Certificate,
        Existing::Renew,
    )?;
    Ok(Outcome {
        files: batch.commit()?,
        certificates: vec![new.clone()],
        ..Outcome::default()
    })
}
