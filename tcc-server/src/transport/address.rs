//! Which hosts and addresses may be called. Endpoints come from callers, so the coordinator must not become their
//! way to what only it can reach: link-local and metadata addresses never, and with an allow-list nothing else
//! than what it names.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use ipnet::IpNet;
use url::{Host, Url};

/// The hosts and networks that may be called; empty for all that are not forbidden.
#[derive(Clone, Debug, Default)]
pub struct AllowList {
    hosts: Vec<(String, Option<u16>)>,
    networks: Vec<IpNet>,
}

/// A text that is neither `host`, `host:port` nor a network.
#[derive(Debug, thiserror::Error)]
#[error("{0:?} is neither a host, nor a host:port, nor a network such as 10.0.0.0/8")]
pub struct BadAllowance(String);

impl AllowList {
    /// Reads one entry a text: `payment.internal`, `payment.internal:8080`, `10.1.0.0/16` or `10.1.2.3`.
    ///
    /// # Errors
    /// When one of them is none of these.
    pub fn parse<'a>(entries: impl IntoIterator<Item = &'a str>) -> Result<Self, BadAllowance> {
        let mut list = Self::default();
        for entry in entries {
            let bad = || BadAllowance(entry.to_owned());
            if let Ok(network) = entry.parse::<IpNet>() {
                list.networks.push(network);
            } else if let Ok(address) = entry.trim_matches(['[', ']']).parse::<IpAddr>() {
                list.networks.push(address.into());
            } else if entry.contains('/') {
                return Err(bad());
            } else {
                let url = Url::parse(&format!("tcc://{entry}")).map_err(|_| bad())?;
                let host = url.host_str().filter(|host| !host.is_empty()).ok_or_else(bad)?;
                let plain = url.path().is_empty() && url.query().is_none() && url.fragment().is_none();
                if !plain || !url.username().is_empty() {
                    return Err(bad());
                }
                list.hosts.push((name(host), url.port()));
            }
        }
        Ok(list)
    }

    /// Whether a URL may be called, as far as can be told without looking its host up.
    pub(crate) fn check(&self, url: &Url) -> Result<(), String> {
        let host = url.host().ok_or("has no host")?;
        if !url.username().is_empty() || url.password().is_some() {
            return Err("has a user name or password; give them as a header".to_owned());
        }
        // What is named is named with its ports: a network beside it opens no others.
        let named = name(url.host_str().unwrap_or_default());
        let port = url.port_or_known_default();
        let mut ports = self.hosts.iter().filter(|(h, _)| *h == named).map(|(_, port)| *port).peekable();
        let is_named = ports.peek().is_some();
        let listed = ports.any(|allowed| allowed.is_none() || allowed == port);
        match host {
            Host::Ipv4(address) => self.check_address(address.into(), listed),
            Host::Ipv6(address) => self.check_address(address.into(), listed),
            Host::Domain(_) if listed => Ok(()),
            Host::Domain(_) if is_named => {
                Err(format!("has a port of {named} which the allow-list does not name"))
            }
            // A name that is not listed may still resolve into a network that is.
            Host::Domain(_) if self.hosts.is_empty() || !self.networks.is_empty() => Ok(()),
            Host::Domain(host) => Err(format!("has the host {host}, which the allow-list does not name")),
        }
    }

    /// Leaves of what a name resolved to what may be called. One forbidden address condemns them all: a name that
    /// has both is not an honest one.
    pub(super) fn check_resolved(&self, host: &str, addresses: &[SocketAddr]) -> Result<(), String> {
        let listed = self.hosts.iter().any(|(h, _)| *h == name(host));
        addresses.iter().try_for_each(|address| self.check_address(address.ip(), listed))
    }

    fn check_address(&self, address: IpAddr, listed_by_name: bool) -> Result<(), String> {
        let address = embedded(address);
        if is_forbidden(address) {
            return Err(format!("has the address {address}, which is never called"));
        }
        let unrestricted = self.hosts.is_empty() && self.networks.is_empty();
        if unrestricted || listed_by_name || self.networks.iter().any(|network| network.contains(&address)) {
            Ok(())
        } else {
            Err(format!("has the address {address}, which the allow-list does not name"))
        }
    }
}

/// A name without the dot that makes it absolute, in lower case.
fn name(host: &str) -> String {
    host.trim_end_matches('.').to_ascii_lowercase()
}

/// The IPv4 address an IPv6 address stands for, if it does: mapped, compatible, translated, NAT64 or 6to4.
fn embedded(address: IpAddr) -> IpAddr {
    let IpAddr::V6(v6) = address else { return address };
    let [a, b, c, d, e, f, g, h] = v6.segments();
    let v4 = |high: u16, low: u16| {
        let ([a, b], [c, d]) = (high.to_be_bytes(), low.to_be_bytes());
        IpAddr::V4(Ipv4Addr::new(a, b, c, d))
    };
    match (a, b, c, d, e, f) {
        (0, 0, 0, 0, 0, 0) if !v6.is_loopback() && !v6.is_unspecified() => v4(g, h),
        (0, 0, 0, 0, 0, 0xffff) | (0, 0, 0, 0, 0xffff, 0) => v4(g, h),
        (0x64, 0xff9b, 0, 0, 0, 0) | (0x64, 0xff9b, 1, ..) => v4(g, h),
        (0x2002, high, low, ..) => v4(high, low),
        _ => address,
    }
}

fn is_forbidden(address: IpAddr) -> bool {
    // Where clouds keep what only the machine itself may read, beside 169.254.169.254.
    const METADATA: [Ipv4Addr; 3] =
        [Ipv4Addr::new(100, 100, 100, 200), Ipv4Addr::new(168, 63, 129, 16), Ipv4Addr::new(192, 0, 0, 192)];
    match address {
        IpAddr::V4(v4) => {
            METADATA.contains(&v4)
                || v4.is_link_local()
                || v4.is_broadcast()
                || v4.is_multicast()
                || v4.octets()[0] == 0
        }
        IpAddr::V6(v6) => {
            // Unique local addresses that clouds took for the same. One has several such services, for which it
            // keeps a whole network; around the single addresses of the others anybody's own network may be.
            let cloud = matches!(
                v6.segments(),
                [0xfd00, 0xec2, ..]
                    | [0xfd20, 0xce, 0, 0, 0, 0, 0, 0x254]
                    | [0xfd00, 0x42, 0, 0, 0, 0, 0, 0x42]
            );
            cloud || v6.is_unspecified() || v6.is_multicast() || v6.is_unicast_link_local()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(list: &AllowList, url: &str) -> bool {
        Url::parse(url).is_err() || list.check(&Url::parse(url).unwrap()).is_err()
    }

    #[test]
    fn metadata_and_link_local_addresses_are_refused_in_all_spellings() {
        let all = AllowList::default();
        for url in [
            "http://169.254.169.254/latest/meta-data/",
            "http://169.254.1.1/",
            "http://0xa9fea9fe/",
            "http://0xa9.0xfe.0xa9.0xfe/",
            "http://2852039166/",
            "http://0251.0376.0251.0376/",
            "http://169.254.43518/",
            "http://[::ffff:169.254.169.254]/",
            "http://[::169.254.169.254]/",
            "http://[64:ff9b::a9fe:a9fe]/",
            "http://[2002:a9fe:a9fe::1]/",
            "http://[fd00:ec2::254]/",
            "http://[fd00:ec2::23]/v1/credentials",
            "http://[fd20:ce::254]/computeMetadata/v1/",
            "http://[fd00:42::42]/conf",
            "http://[::ffff:0:169.254.169.254]/",
            "http://[64:ff9b:1::169.254.169.254]/",
            "http://[fe80::1]/",
            "http://100.100.100.200/",
            "http://168.63.129.16/",
            "http://0.0.0.0/",
            "http://0/",
            "http://[::]/",
            "http://255.255.255.255/",
            "http://224.0.0.1/",
            "http://user@10.0.0.1/",
            "http://user:pass@payment/",
        ] {
            assert!(refused(&all, url), "{url}");
        }
        for url in [
            "http://127.0.0.1:1/",
            "http://10.0.0.1/",
            "http://[::1]/",
            "http://payment.internal/",
            "http://[fd12::1]/",
        ] {
            assert!(!refused(&all, url), "{url}");
        }
    }

    #[test]
    fn a_name_that_resolves_to_a_forbidden_address_is_refused() {
        let all = AllowList::default();
        let address = |text: &str| text.parse::<SocketAddr>().unwrap();
        assert!(all.check_resolved("evil.example", &[address("169.254.169.254:0")]).is_err());
        assert!(
            all.check_resolved("evil.example", &[address("10.0.0.1:0"), address("[fe80::1]:0")]).is_err()
        );
        assert!(all.check_resolved("good.example", &[address("10.0.0.1:0")]).is_ok());
        let listed = AllowList::parse(["evil.example"]).unwrap();
        assert!(listed.check_resolved("evil.example", &[address("169.254.169.254:0")]).is_err());
    }

    #[test]
    fn an_allow_list_allows_what_it_names_and_nothing_else() {
        let list =
            AllowList::parse(["payment.internal", "stock.internal:8080", "10.1.0.0/16", "::1"]).unwrap();
        let names = AllowList::parse(["payment.internal", "stock.internal:8080"]).unwrap();
        assert!(!refused(&names, "http://PAYMENT.internal.:99/"));
        assert!(!refused(&names, "http://stock.internal:8080/"));
        assert!(refused(&names, "http://stock.internal:8081/"));
        assert!(refused(&names, "http://other.internal/"));
        assert!(refused(&names, "http://10.1.2.3/"));
        assert!(!refused(&list, "http://10.1.2.3/"));
        assert!(!refused(&list, "http://[::1]/"));
        assert!(refused(&list, "http://10.2.2.3/"));
        let address = |text: &str| text.parse::<SocketAddr>().unwrap();
        assert!(list.check_resolved("other.internal", &[address("10.1.9.9:0")]).is_ok());
        assert!(list.check_resolved("other.internal", &[address("10.2.9.9:0")]).is_err());
        assert!(list.check_resolved("payment.internal", &[address("10.2.9.9:0")]).is_ok());
        // A network beside it opens no other port of a host that is named with one.
        let both = AllowList::parse(["stock.internal:8080", "10.1.0.0/16"]).unwrap();
        assert!(!refused(&both, "http://stock.internal:8080/"));
        assert!(refused(&both, "http://stock.internal:22/"));
        // An address may have a port, too.
        let ports = AllowList::parse(["10.1.2.3:8080", "[::1]:8080"]).unwrap();
        assert!(!refused(&ports, "http://10.1.2.3:8080/"));
        assert!(!refused(&ports, "http://[0:0::1]:8080/"));
        for url in
            ["http://10.1.2.3/", "http://[::1]:8081/", "http://10.1.2.4:8080/", "http://10.1.2.3.test:8080/"]
        {
            assert!(refused(&ports, url), "{url}");
        }
        let metadata = AllowList::parse(["169.254.169.254:80", "[fd00:ec2::254]:80"]).unwrap();
        assert!(refused(&metadata, "http://169.254.169.254/"));
        assert!(refused(&metadata, "http://[fd00:ec2::254]/"));
        for bad in ["", "a b", "10.0.0.0/99", "user@host", "host/path", "host:port"] {
            assert!(AllowList::parse([bad]).is_err(), "{bad}");
        }
    }
}
