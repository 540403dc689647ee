//! Where to listen: an address that is still to be bound, or a socket that has been bound already.
//!
//! Who starts several servers that must know each other's addresses binds all of them first and hands each its socket:
//! between choosing a free port and binding it, nobody else can take it.

use std::{io, net::SocketAddr, sync::Arc};

use tokio::net::TcpListener;

/// Where to listen.
#[derive(Clone, Debug)]
pub struct Listen {
    address: SocketAddr,
    bound: Option<Arc<std::net::TcpListener>>,
}

impl From<SocketAddr> for Listen {
    /// Binds later; port 0 takes a free one then.
    fn from(address: SocketAddr) -> Self {
        Self { address, bound: None }
    }
}

impl Listen {
    /// Binds now; port 0 takes a free one. The port is taken as long as this or a listener of it lives.
    ///
    /// # Errors
    /// When the address cannot be bound.
    pub fn bind(address: SocketAddr) -> io::Result<Self> {
        let bound = std::net::TcpListener::bind(address)?;
        bound.set_nonblocking(true)?;
        Ok(Self { address: bound.local_addr()?, bound: Some(Arc::new(bound)) })
    }

    /// The address, with the real port where it has been bound.
    #[must_use]
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// The listener.
    ///
    /// # Errors
    /// When the address cannot be bound.
    pub async fn listener(&self) -> io::Result<TcpListener> {
        match &self.bound {
            Some(bound) => TcpListener::from_std(bound.try_clone()?),
            None => TcpListener::bind(self.address).await,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_bound_port_is_taken_until_its_listener_is_dropped() {
        let listen = Listen::bind(([127, 0, 0, 1], 0).into()).unwrap();
        let address = listen.address();
        assert_ne!(address.port(), 0);
        Listen::bind(address).unwrap_err();
        let listener = listen.listener().await.unwrap();
        drop(listen);
        Listen::from(address).listener().await.unwrap_err();
        let (client, served) =
            tokio::join!(tokio::net::TcpStream::connect(address), listener.accept());
        assert_eq!(client.unwrap().local_addr().unwrap(), served.unwrap().1);
    }
}
