use selium_remote_client::{
    Capability, ClientConfigBuilder, ClientError, LogItem, Process, ProcessBuilder,
};

#[tokio::main]
async fn main() -> Result<(), ClientError> {
    // SELIUM_DOMAIN, SELIUM_PORT and SELIUM_CERT_DIR; without them localhost, 7000 and ./certs.
    let client = ClientConfigBuilder::from_env()?.connect().await?;

    // It gets these capabilities and no others. Without them it could have no log.
    let hello = ProcessBuilder::new("hello.wasm", "start")
        .capability(Capability::ChannelLifecycle)
        .capability(Capability::ChannelWriter);
    let process = Process::start(&client, hello).await?;

    let mut log = process.log_channel().await?;
    while let Some(item) = log.next().await {
        if let LogItem::Record { record, .. } = item? {
            println!("{} {}", record.level, record.message);
        }
    }
    client.close().await;
    Ok(())
}
