use std::{error::Error, time::Duration};

use selium_remote_client::ClientConfigBuilder;

async fn connect() -> Result<(), Box<dyn Error>> {
    let client = ClientConfigBuilder::from_env()?
        .connect_timeout(Duration::from_secs(5))
        .request_timeout(Duration::from_secs(60))
        .connect()
        .await?;
    println!("{} as {}", client.server().software, client.server().role);
    client.close().await;
    Ok(())
}
