//! Connects with a client certificate, and tells what is wrong when that fails:
//!
//! ```text
//! selium cert issue eve && selium cert bundle eve        # where the CAs are
//! selium --cert-dir ./certs cert import eve.bundle.pem   # on eve's machine
//! cargo run --example mtls -- ./certs
//! ```
//!
//! The directory has `ca.crt` (who may be the server), `client.crt` and `client.key` (who this is). The server is the one
//! that `SELIUM_DOMAIN` and `SELIUM_PORT` name; each role has a port of its own.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a program")]

use std::{error::Error, path::Path, process::ExitCode, time::SystemTime};

use selium_remote_client::{
    CertificateDirectory, CertificateRejection, Client, ClientConfigBuilder, ClientError,
    ConnectCause, ErrorKind,
};

/// A certificate is renewed some time before it ends.
const RENEW_DAYS: u64 = 14;

#[tokio::main]
async fn main() -> ExitCode {
    let Some(directory) = std::env::args_os().nth(1) else {
        eprintln!("usage: mtls CERTIFICATE-DIRECTORY");
        return ExitCode::from(2);
    };
    let Err(error) = run(Path::new(&directory)).await else {
        return ExitCode::SUCCESS;
    };
    eprintln!("error: {error}");
    if let Some(error) = error.downcast_ref::<ClientError>() {
        eprintln!("hint: {}", what_to_do(error));
    }
    ExitCode::FAILURE
}

async fn run(directory: &Path) -> Result<(), Box<dyn Error>> {
    // `connect` loads the directory itself. This is for what is no error and should be put right all the same, such as a
    // key that others can read.
    let files = CertificateDirectory::load(directory).map_err(ClientError::from)?;
    for warning in files.warnings() {
        eprintln!("warning: {warning}");
    }
    let client = ClientConfigBuilder::from_env()?
        .certificate_directory(directory)
        .connect()
        .await?;
    let server = client.server();
    println!("connected to {} as {}", server.address, server.role);
    if !server.authenticated {
        // It was not provisioned (`selium server install`): it asks nobody for a certificate, and has not seen this one.
        eprintln!("warning: whoever reaches this server can do what you can");
    }
    tell_expiry(&client);
    client.close().await;
    Ok(())
}

/// A long-running program looks from time to time. The files are read anew for each connection: when a renewed
/// certificate is in the directory, the next connection shows it, without a restart.
fn tell_expiry(client: &Client) {
    let Some(end) = client.credentials_expire_at() else {
        return;
    };
    let left = end.duration_since(SystemTime::now()).unwrap_or_default();
    let days = left.as_secs() / (24 * 60 * 60);
    println!("the certificate is valid for {days} more days");
    if days < RENEW_DAYS {
        eprintln!("warning: renew it (`selium cert renew`, where the CAs are)");
    }
}

/// The errors' own texts say all this, and more exactly. Programs that have to decide look at the kind and the cause.
fn what_to_do(error: &ClientError) -> &'static str {
    match error {
        // Files that are missing, cannot be read, or are not what they should be. Nothing was sent.
        ClientError::Certificate(_) => "look at the files",
        // With TLS 1.3 the server judges the certificate after the handshake. `connect` waits for that, so that a refusal
        // is always an error of `connect` and never of the first request.
        ClientError::Connect(failure) => match failure.cause {
            ConnectCause::Rejected(CertificateRejection::Expired) => "renew your certificate",
            ConnectCause::Rejected(CertificateRejection::UnknownCa) => {
                "this is another role's port, or another server"
            }
            ConnectCause::Rejected(_) => "ask for another certificate",
            ConnectCause::UnknownIssuer | ConnectCause::WrongName => "this may not be your server",
            ConnectCause::Expired => "the server's certificate has to be renewed",
            ConnectCause::NoAnswer => "is it running, and is this its port?",
            _ => "see above",
        },
        // Who this client is, or what it may do: trying again does not help.
        error if error.is_auth() => "not without another certificate",
        error if error.is_retryable() => "try again later",
        error if error.kind() == ErrorKind::Local => "look at this machine",
        _ => "see above",
    }
}
