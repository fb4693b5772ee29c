//! QR codes as images, for authenticator apps that scan what they enrol.

use qrcode::{Color, EcLevel, QrCode};

/// Modules of light around the code (ISO/IEC 18004, 9.1).
const QUIET: usize = 4;

/// `text` as a QR code: an SVG image without a size of its own, dark on white. `None` where the text is
/// too long for one.
pub(crate) fn svg(text: &str) -> Option<String> {
    let code = QrCode::with_error_correction_level(text, EcLevel::M).ok()?;
    let width = code.width();
    let colors = code.to_colors();
    let mut path = String::new();
    for (y, row) in colors.chunks(width).enumerate() {
        for (x, length) in runs(row) {
            let (x, y) = (x + QUIET, y + QUIET);
            path += &format!("M{x} {y}h{length}v1h-{length}z");
        }
    }
    let side = width + 2 * QUIET;
    Some(format!(
        r##"<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {side} {side}" shape-rendering="crispEdges"><path fill="#fff" d="M0 0h{side}v{side}H0z"/><path d="{path}"/></svg>"##
    ))
}

/// Where dark modules begin, and how many follow each other.
fn runs(row: &[Color]) -> Vec<(usize, usize)> {
    let mut runs = Vec::new();
    let mut at = 0;
    for run in row.chunk_by(|one, next| one == next) {
        if run[0] == Color::Dark {
            runs.push((at, run.len()));
        }
        at += run.len();
    }
    runs
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The image as modules again, drawn by what its path says.
    fn drawn(svg: &str, width: usize) -> Vec<Color> {
        let (_, path) = svg.rsplit_once(" d=\"").expect("a path");
        let (path, _) = path.split_once('"').expect("its end");
        let mut colors = vec![Color::Light; width * width];
        for run in path.split('M').skip(1) {
            let (at, rest) = run.split_once('h').expect("a run");
            let (x, y) = at.split_once(' ').expect("two numbers");
            let (length, _) = rest.split_once('v').expect("a run");
            let number = |text: &str| text.parse::<usize>().expect("a number");
            let first = (number(y) - QUIET) * width + number(x) - QUIET;
            colors[first..first + number(length)].fill(Color::Dark);
        }
        colors
    }

    #[test]
    fn the_image_has_every_module_of_the_code() {
        let text = "otpauth://totp/shop:u1?secret=GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ&issuer=shop";
        let code = QrCode::with_error_correction_level(text, EcLevel::M).expect("a code");
        let image = svg(text).expect("drawn");
        assert_eq!(drawn(&image, code.width()), code.to_colors());
        let side = code.width() + 8;
        assert!(image.contains(&format!("viewBox=\"0 0 {side} {side}\"")));
    }

    #[test]
    fn the_longest_address_is_small_enough_to_be_answered_again() {
        let image = svg(&"x".repeat(600)).expect("drawn");
        assert!(image.len() < 64 * 1024, "{} bytes", image.len());
        let usual = svg(&"x".repeat(120)).expect("drawn");
        assert!(usual.len() < 14 * 1024, "{} bytes", usual.len());
        assert_eq!(svg(&"x".repeat(5_000)), None);
    }

    #[test]
    fn what_the_text_says_is_no_part_of_the_image() {
        let image = svg("</svg><script>alert(1)</script>").expect("drawn");
        assert!(!image.contains("script"));
    }
}
