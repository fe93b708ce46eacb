SUMMARY = "The image of a gateway in the field"
DESCRIPTION = "Nobody logs in but by an SSH key that the build was given; no tools to debug with."
HOMEPAGE = "https://v2g-edge.example"
BUGTRACKER = "https://v2g-edge.example/issues"
SECTION = "base"

require v2g-edge-image.inc

# Whatever local.conf has for other images.
IMAGE_FEATURES:remove = "allow-empty-password allow-root-login dbg-pkgs empty-root-password post-install-logging serial-autologin-root tools-debug tools-sdk"

CVE_PRODUCT = "v2g-edge:v2g-edge"
