//! `countersign:service/phone`: numbers, parsed once for a call and kept over its re-runs.

use countersign_types::NumberKind;

use super::{Access, bounded};
use crate::bindings::service::countersign::service::phone::{Host, Kind, Number, PhoneError};
use crate::phone;

impl Host for Access<'_> {
    fn parse(
        &mut self,
        text: String,
        region: Option<String>,
    ) -> wasmtime::Result<Result<Number, PhoneError>> {
        if let Some(region) = &region {
            bounded("a region", region, 2, 3)?;
        }
        let view = self.view()?;
        let region = region.or_else(|| view.run.host.default_region.clone());
        let parsed = view.run.kept.phones.parse(&text, region.as_deref());
        let keyring = &view.run.host.keyring;
        Ok(parsed
            .map(|number| Number {
                index: phone::index(keyring, &number),
                e164: number.e164,
                country: number.country,
                kind: kind(number.kind),
            })
            .map_err(|error| match error {
                phone::PhoneError::NotANumber => PhoneError::NotANumber,
                phone::PhoneError::NoCountry => PhoneError::NoCountry,
                phone::PhoneError::TooShort => PhoneError::TooShort,
                phone::PhoneError::TooLong => PhoneError::TooLong,
                phone::PhoneError::Invalid => PhoneError::Invalid,
                phone::PhoneError::Extension => PhoneError::Extension,
            }))
    }
}

fn kind(kind: NumberKind) -> Kind {
    match kind {
        NumberKind::Mobile => Kind::Mobile,
        NumberKind::FixedLine => Kind::FixedLine,
        NumberKind::FixedLineOrMobile => Kind::FixedLineOrMobile,
        NumberKind::TollFree => Kind::TollFree,
        NumberKind::PremiumRate => Kind::PremiumRate,
        NumberKind::SharedCost => Kind::SharedCost,
        NumberKind::Personal => Kind::Personal,
        NumberKind::Voip => Kind::Voip,
        NumberKind::Pager => Kind::Pager,
        NumberKind::Uan => Kind::Uan,
        NumberKind::Voicemail => Kind::Voicemail,
        NumberKind::Unknown => Kind::Unknown,
    }
}
