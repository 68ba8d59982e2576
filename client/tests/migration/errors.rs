use selium_remote_client::{Client, ClientError, ErrorCode, ProcessState};

async fn stop(client: &Client, name: &str) -> Result<bool, ClientError> {
    match client.stop(name).await {
        Ok(_process) => Ok(true),
        Err(error) if error.code() == Some(ErrorCode::NotFound) => Ok(false),
        // It may have been stopped, or not: look before you act on it.
        Err(error) if error.is_outcome_unknown() => {
            Ok(client.inspect(name).await?.state == ProcessState::Stopped)
        }
        Err(error) => Err(error),
    }
}
