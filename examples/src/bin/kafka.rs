//! Points by Kafka: `kafka 127.0.0.1:9092`.

use tcc_examples::brokers::kafka::{TOPIC, consume, make_topic};
use tcc_examples::brokers::story;

#[tokio::main]
async fn main() -> Result<(), tcc_client::BoxError> {
    let at = std::env::args().nth(1).unwrap_or_else(|| "127.0.0.1:9092".to_owned());
    make_topic(&at).await?;
    let endpoint = format!("kafka://{at}/{TOPIC}?type=order.placed");
    story(endpoint, async |loyalty| consume(&at, &loyalty, 2).await).await
}
