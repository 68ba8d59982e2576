use selium_remote_client::{Capability, Client, ClientError, LogItem, Process, ProcessBuilder};

async fn follow(client: &Client) -> Result<(), ClientError> {
    let hello = ProcessBuilder::new("hello.wasm", "start")
        .capability(Capability::ChannelLifecycle)
        .capability(Capability::ChannelWriter);
    let process = Process::start(client, hello).await?;
    println!("started {}", process.id());
    let mut log = process.log_channel().await?;
    while let Some(item) = log.next().await {
        match item? {
            LogItem::Record { record, .. } => println!("{} {}", record.level, record.message),
            LogItem::Gap { .. } => println!("some records are missing here"),
            _ => {}
        }
    }
    Ok(())
}
