//! Points by RabbitMQ: `rabbitmq 127.0.0.1:5672`.

use tcc_examples::brokers::rabbitmq::{QUEUE, connect, consume};
use tcc_examples::brokers::story;

#[tokio::main]
async fn main() -> Result<(), tcc_client::BoxError> {
    let at = std::env::args().nth(1).unwrap_or_else(|| "127.0.0.1:5672".to_owned());
    connect(&at).await?;
    let endpoint = format!("amqp://{at}?key={QUEUE}&type=order.placed");
    story(endpoint, async |loyalty| consume(&at, &loyalty, 2).await).await
}
