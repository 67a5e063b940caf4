//! rtnetlink(7), as much of it as moving a device takes: requests that are acknowledged, and dumps. A message is its fixed
//! header and attributes as they are on the wire: what this program does not know of a device passes through untouched.

use netlink_packet_core::{
    DecodeError, DefaultNla, Emitable as _, NLM_F_ACK, NLM_F_DUMP, NLM_F_REQUEST, NetlinkBuffer, NetlinkDeserializable,
    NetlinkHeader, NetlinkMessage, NetlinkPayload, NetlinkSerializable, NlasIterator,
};
use netlink_sys::protocols::NETLINK_ROUTE;
use nix::errno::Errno;

use crate::error::{Context as _, Result, bail};

/// More than the kernel puts into one packet.
const LONGEST_PACKET: usize = 64 * 1024;
/// struct nlattr: length and kind.
const ATTRIBUTE_HEADER: usize = 4;

/// A message of rtnetlink: its type (RTM_*), and its header with all attributes behind it.
#[derive(Clone, Debug, PartialEq)]
pub struct Message {
    /// RTM_*
    pub kind: u16,
    /// The header that belongs to the type, and the attributes.
    pub body: Vec<u8>,
}

impl Message {
    /// A message with its type's header and these attributes.
    pub fn new(kind: u16, header: &[u8], attributes: &[DefaultNla]) -> Self {
        let mut body = header.to_vec();
        body.resize(header.len() + attributes.buffer_len(), 0);
        attributes.emit(&mut body[header.len()..]);
        Self { kind, body }
    }
}

/// The attributes behind a header of this length; what is cut off in the middle is left out.
pub fn attributes(body: &[u8], header: usize) -> impl Iterator<Item = (u16, &[u8])> {
    let nlas = NlasIterator::new(body.get(header..).unwrap_or_default());
    nlas.map_while(std::result::Result::ok).map(|nla| {
        let (kind, length) = (nla.kind(), nla.value().len());
        // It holds the rest of the body, from its own header on.
        (kind, &nla.into_inner()[ATTRIBUTE_HEADER..ATTRIBUTE_HEADER + length])
    })
}

impl NetlinkSerializable for Message {
    fn message_type(&self) -> u16 {
        self.kind
    }
    fn buffer_len(&self) -> usize {
        self.body.len()
    }
    fn serialize(&self, buffer: &mut [u8]) {
        buffer.copy_from_slice(&self.body);
    }
}

impl NetlinkDeserializable for Message {
    type Error = DecodeError;
    fn deserialize(header: &NetlinkHeader, payload: &[u8]) -> std::result::Result<Self, DecodeError> {
        Ok(Self { kind: header.message_type, body: payload.to_vec() })
    }
}

/// A socket of the network namespace that it was opened in.
pub struct Socket {
    socket: netlink_sys::Socket,
    sequence: u32,
}

impl Socket {
    /// Opens one in the present network namespace.
    pub fn open() -> Result<Self> {
        let mut socket = netlink_sys::Socket::new(NETLINK_ROUTE).context("open a netlink socket")?;
        socket.bind_auto().context("bind a netlink socket")?;
        Ok(Self { socket, sequence: 0 })
    }

    /// Asks for a change, with further NLM_F_* flags, and waits until it is made.
    pub fn change(&mut self, message: Message, flags: u16) -> Result<()> {
        self.converse(message, NLM_F_ACK | flags).map(drop)
    }

    /// Asks for all objects of a kind: the bodies of the messages that describe them.
    pub fn dump(&mut self, message: Message) -> Result<Vec<Vec<u8>>> {
        self.converse(message, NLM_F_DUMP)
    }

    fn converse(&mut self, message: Message, flags: u16) -> Result<Vec<Vec<u8>>> {
        self.sequence += 1;
        let mut header = NetlinkHeader::default();
        header.flags = NLM_F_REQUEST | flags;
        header.sequence_number = self.sequence;
        let mut request = NetlinkMessage::new(header, NetlinkPayload::InnerMessage(message));
        request.finalize();
        let mut packet = vec![0; request.buffer_len()];
        request.serialize(&mut packet);
        self.socket.send(&packet, 0).context("send to the kernel's netlink")?;
        let mut bodies = Vec::new();
        loop {
            let mut packet = Vec::with_capacity(LONGEST_PACKET);
            self.socket.recv(&mut packet, 0).context("receive from the kernel's netlink")?;
            if self.read(&packet, &mut bodies)? {
                return Ok(bodies);
            }
        }
    }

    /// Reads the messages of one packet; true: the answer is complete.
    fn read(&self, mut packet: &[u8], bodies: &mut Vec<Vec<u8>>) -> Result<bool> {
        while !packet.is_empty() {
            let length = NetlinkBuffer::new_checked(packet).context("netlink")?.length() as usize;
            let message = NetlinkMessage::<Message>::deserialize(packet).context("netlink")?;
            if message.header.sequence_number == self.sequence {
                match message.payload {
                    NetlinkPayload::InnerMessage(message) => bodies.push(message.body),
                    NetlinkPayload::Done(_) => return Ok(true),
                    NetlinkPayload::Error(error) => match error.code {
                        None => return Ok(true),
                        Some(code) => Err(Errno::from_raw(-code.get()))?,
                    },
                    NetlinkPayload::Overrun(_) => bail!("the kernel's answer was cut off"),
                    _ => {}
                }
            }
            packet = &packet[length.next_multiple_of(4).min(packet.len())..];
        }
        Ok(false)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attributes_come_back_as_they_were_put_in() {
        let put = [DefaultNla::new(3, b"eth0\0".to_vec()), DefaultNla::new(28, vec![7, 0, 0, 0])];
        let message = Message::new(16, &[1; 16], &put);
        assert_eq!(message.body.len(), 16 + 12 + 8);
        let found: Vec<_> = attributes(&message.body, 16).collect();
        assert_eq!(found, [(3, b"eth0\0".as_slice()), (28, &[7, 0, 0, 0])]);
        assert_eq!(attributes(&message.body[..20], 16).count(), 0);
    }

    #[test]
    fn the_kernel_answers_a_dump_and_refuses_in_its_own_words() {
        let mut socket = Socket::open().unwrap();
        let has_loopback = |socket: &mut Socket| {
            let links = socket.dump(Message::new(libc::RTM_GETLINK, &[0; 16], &[])).unwrap();
            links.iter().any(|body| attributes(body, 16).any(|attribute| attribute == (3, b"lo\0")))
        };
        assert!(has_loopback(&mut socket));
        let header = [0, 0, 0, 0, 0xff, 0xff, 0xff, 0x7f, 0, 0, 0, 0, 0, 0, 0, 0];
        let error = socket.change(Message::new(libc::RTM_NEWLINK, &header, &[]), 0).unwrap_err();
        assert!(crate::error::errno(&error).is_some(), "{error:#}");
        // The conversation goes on in step.
        assert!(has_loopback(&mut socket));
    }
}
