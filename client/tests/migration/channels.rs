use selium_remote_client::{Channel, Client, ClientError, SubscribeItem, SubscribeOptions};

async fn ping(client: &Client) -> Result<(), ClientError> {
    let channel = Channel::create(client, 64 * 1024).await?;
    // As 0.3.3 did: writers wait for this subscriber. `channel.subscribe(64 * 1024)` lets them go on.
    let lossless = SubscribeOptions::new()
        .lossless(true)
        .max_message(64 * 1024);
    let mut subscriber = channel.subscribe_with(lossless).await?;
    let mut publisher = channel.publish().await?;
    publisher.send(b"ping".to_vec()).await?;
    if let Some(item) = subscriber.next().await {
        match item? {
            SubscribeItem::Message { payload, .. } => println!("{} bytes", payload.len()),
            SubscribeItem::Gap { .. } => println!("some messages are missing here"),
            _ => {}
        }
    }
    publisher.close().await?;
    channel.delete().await
}
