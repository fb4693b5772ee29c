//! What is sent beside the pages. A name has a hash of the content in it, so that a browser keeps it for
//! as long as it likes and a new version is another file.

use std::sync::LazyLock;

use aws_lc_rs::digest::{SHA256, digest};
use countersign_types::hex;

/// A file that pages refer to.
pub(crate) struct Asset {
    pub(crate) content: &'static str,
    pub(crate) media_type: &'static str,
    name: String,
}

/// How pages look.
pub(crate) static STYLE: LazyLock<Asset> = LazyLock::new(|| {
    Asset::new(
        "style",
        "css",
        "text/css; charset=utf-8",
        include_str!("style.css"),
    )
});

/// What keeps figures fresh.
pub(crate) static SCRIPT: LazyLock<Asset> = LazyLock::new(|| {
    Asset::new(
        "script",
        "js",
        "text/javascript; charset=utf-8",
        include_str!("script.js"),
    )
});

/// The sign of the product.
pub(crate) static ICON: LazyLock<Asset> =
    LazyLock::new(|| Asset::new("icon", "svg", "image/svg+xml", include_str!("icon.svg")));

impl Asset {
    fn new(stem: &str, ending: &str, media_type: &'static str, content: &'static str) -> Asset {
        let hash = digest(&SHA256, content.as_bytes());
        let hash = hex(&hash.as_ref()[..6]);
        Asset {
            content,
            media_type,
            name: format!("{stem}-{hash}.{ending}"),
        }
    }

    /// Where pages find it.
    pub(crate) fn path(&self) -> String {
        format!("/dashboard/assets/{}", self.name)
    }

    /// The file of that name.
    pub(crate) fn named(name: &str) -> Option<&'static Asset> {
        let all: [&'static LazyLock<Asset>; 3] = [&STYLE, &SCRIPT, &ICON];
        let mut all = all.into_iter().map(|asset| &**asset);
        all.find(|asset| asset.name == name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_asset_is_found_under_the_name_that_pages_give_it() {
        for asset in [&*STYLE, &*SCRIPT, &*ICON] {
            let path = asset.path();
            let name = path.strip_prefix("/dashboard/assets/").expect("its folder");
            let found = Asset::named(name).expect("found");
            assert_eq!(found.content, asset.content);
        }
        assert!(Asset::named("style.css").is_none());
    }

    #[test]
    fn nothing_comes_from_another_address() {
        for asset in [&*STYLE, &*SCRIPT, &*ICON] {
            let text = asset.content.replace("http://www.w3.org/2000/svg", "");
            assert!(!text.contains("//") || asset.media_type.contains("javascript"));
            assert!(!text.contains("http:") && !text.contains("https:"));
            assert!(!text.contains("@import"));
        }
    }
}
