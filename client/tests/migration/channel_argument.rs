use selium_remote_client::{Capability, Channel, Client, ClientError, Process, ProcessBuilder};

async fn start_with(client: &Client, jobs: &Channel) -> Result<Process, ClientError> {
    let worker = ProcessBuilder::new("worker.wasm", "start")
        .capability(Capability::ChannelLifecycle)
        .capability(Capability::ChannelReader)
        .arg_channel(jobs);
    Process::start(client, worker).await
}
