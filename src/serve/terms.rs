//! Under which terms a client was let in by TLS, and whether they still hold: a client CA may change while its
//! connections are open.

use std::{net::SocketAddr, sync::Arc};

use rustls::pki_types::CertificateDer;

use crate::{config::Https, gateway::Live, tls::ClientCa};

/// What a client was let in by.
#[derive(Debug)]
pub struct Terms {
    listener: SocketAddr,
    client_ca: Option<Arc<ClientCa>>,
    /// The client's certificate with what it rests on.
    shown: Vec<CertificateDer<'static>>,
    /// The last settings under which the client would have been let in.
    generation: u64,
}

impl Terms {
    /// Those of a listener, for a client that has shown nothing yet.
    pub fn of(https: &Https, live: &Live) -> Self {
        let Https { address, client_ca, .. } = https;
        let generation = live.generation;
        Self { listener: *address, client_ca: client_ca.clone(), shown: Vec::new(), generation }
    }

    /// Takes note of the certificates that the client has shown.
    pub fn accept(&mut self, shown: Option<&[CertificateDer<'static>]>) {
        self.shown = shown.map(<[_]>::to_vec).unwrap_or_default();
    }

    /// Whether the client would be let in under these settings, too.
    pub(super) fn hold(&mut self, live: &Live) -> bool {
        self.generation == live.generation || self.hold_anew(live)
    }

    fn hold_anew(&mut self, live: &Live) -> bool {
        let Some(https) = live.settings.listen.https.iter().find(|https| https.address == self.listener)
        else {
            return false;
        };
        let hold = match (&self.client_ca, &https.client_ca) {
            (_, None) => true,
            (Some(before), Some(now)) if before.is_same(now) => true,
            (_, Some(now)) => now.lets_in(&self.shown),
        };
        if hold {
            (self.generation, self.client_ca) = (live.generation, https.client_ca.clone());
        }
        hold
    }
}
