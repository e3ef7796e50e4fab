//! Just enough HTTP/1.1 to look at it and to break it: whole messages of a known length.

use std::io::{Error, ErrorKind};
use std::net::SocketAddr;

use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;

/// A request or an answer.
#[derive(Clone, Debug)]
pub struct Message {
    /// The first line and the headers, with the empty line after them.
    head: String,
    /// The body.
    pub body: Vec<u8>,
}

impl Message {
    /// A request with a JSON body, or without any.
    #[must_use]
    pub fn request(method: &str, path: &str, json: Option<&str>) -> Self {
        let body = json.unwrap_or_default().as_bytes().to_vec();
        let mut head = format!("{method} {path} HTTP/1.1\r\nhost: localhost\r\n");
        if json.is_some() {
            head.push_str("content-type: application/json\r\n");
        }
        head.push_str(&format!("content-length: {}\r\n\r\n", body.len()));
        Self { head, body }
    }

    /// The same with another header.
    #[must_use]
    pub fn with(mut self, name: &str, value: &str) -> Self {
        self.head.truncate(self.head.len() - 2);
        self.head.push_str(&format!("{name}: {value}\r\n\r\n"));
        self
    }

    /// A request to this host instead.
    #[must_use]
    pub fn to(mut self, host: &str) -> Self {
        self.head = self.head.replacen("host: localhost", &format!("host: {host}"), 1);
        self
    }

    /// A request with this body instead.
    #[must_use]
    pub fn with_body(self, body: &[u8]) -> Self {
        let lines = self.head.lines().filter(|line| !line.starts_with("content-length:") && !line.is_empty());
        let head: String = lines.map(|line| format!("{line}\r\n")).collect();
        Self { head: format!("{head}content-length: {}\r\n\r\n", body.len()), body: body.to_vec() }
    }

    /// The method of a request.
    #[must_use]
    pub fn method(&self) -> &str {
        self.head.split(' ').next().unwrap_or_default()
    }

    /// The path of a request, without its query.
    #[must_use]
    pub fn path(&self) -> &str {
        let target = self.head.split(' ').nth(1).unwrap_or_default();
        target.split('?').next().unwrap_or_default()
    }

    /// The status of an answer; 0 for what is none.
    #[must_use]
    pub fn status(&self) -> u16 {
        self.head.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or_default()
    }

    /// The value of a header.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        header(&self.head, name)
    }

    /// The message as it is sent.
    #[must_use]
    pub fn bytes(&self) -> Vec<u8> {
        [self.head.as_bytes(), &self.body].concat()
    }

    /// Reads a message; `None` where the connection ends instead.
    ///
    /// # Errors
    /// When the connection breaks within a message, or its length is not told.
    pub async fn read(from: &mut BufReader<impl AsyncRead + Unpin>) -> Result<Option<Self>, Error> {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            if from.read_until(b'\n', &mut head).await? == 0 {
                let broken = || Err(ErrorKind::UnexpectedEof.into());
                return if head.is_empty() { Ok(None) } else { broken() };
            }
        }
        let head = String::from_utf8(head).map_err(|error| Error::new(ErrorKind::InvalidData, error))?;
        let mut message = Self { head, body: Vec::new() };
        if message.header("transfer-encoding").is_some() {
            return Err(Error::new(ErrorKind::Unsupported, "a body in chunks"));
        }
        let length = message.header("content-length").map_or(Ok(0), str::parse);
        message.body = vec![0; length.map_err(|error| Error::new(ErrorKind::InvalidData, error))?];
        from.read_exact(&mut message.body).await?;
        Ok(Some(message))
    }
}

/// The value of a header in a head: the first line, and the headers.
#[must_use]
pub fn header<'a>(head: &'a str, name: &str) -> Option<&'a str> {
    head.lines().skip(1).find_map(|line| {
        let (known, value) = line.split_once(':')?;
        known.eq_ignore_ascii_case(name).then(|| value.trim())
    })
}

/// Sends a request on a connection of its own, and returns the answer.
///
/// # Errors
/// When no connection could be made, or it ended before the answer was whole.
pub async fn call(address: SocketAddr, request: &Message) -> Result<Message, Error> {
    let stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    let (from, mut to) = stream.into_split();
    let bytes = request.bytes();
    // Whoever answers a request that is too long does so before it was sent whole.
    let (sent, answer) =
        tokio::join!(to.write_all(&bytes), async { Message::read(&mut BufReader::new(from)).await });
    match answer {
        Ok(Some(answer)) => Ok(answer),
        Ok(None) => sent.and(Err(ErrorKind::UnexpectedEof.into())),
        Err(error) => Err(error),
    }
}
