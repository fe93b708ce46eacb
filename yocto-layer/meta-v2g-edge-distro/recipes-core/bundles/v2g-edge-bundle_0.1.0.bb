# nooelint: oelint.var.bbclassextend - it is for boxes alone
SUMMARY = "An update of a gateway, signed"
DESCRIPTION = "The root of v2g-edge-image as a RAUC bundle: read behind dm-verity, and fetched block by block where a box has the rest."
HOMEPAGE = "https://v2g-edge.example"
BUGTRACKER = "https://v2g-edge.example/issues"
SECTION = "base"
LICENSE = "Apache-2.0"

# All that is in a bundle comes from the image.
SRC_URI = ""

inherit bundle

# v2g-edge-image-dev, for boxes that were flashed with it.
V2G_EDGE_BUNDLE_IMAGE ?= "v2g-edge-image"

RAUC_BUNDLE_COMPATIBLE = "${V2G_EDGE_COMPATIBLE}"
RAUC_BUNDLE_VERSION = "${V2G_EDGE_VERSION}"
RAUC_BUNDLE_DESCRIPTION = "${DISTRO_NAME} ${V2G_EDGE_VERSION} for ${V2G_EDGE_COMPATIBLE}"
RAUC_BUNDLE_FORMAT = "verity"

RAUC_BUNDLE_SLOTS = "rootfs"
RAUC_SLOT_rootfs = "${V2G_EDGE_BUNDLE_IMAGE}"
RAUC_SLOT_rootfs[fstype] = "ext4"
RAUC_SLOT_rootfs[adaptive] = "block-hash-index"
RAUC_SLOT_rootfs[rename] = "rootfs.ext4"

CVE_PRODUCT = "v2g-edge:v2g-edge"
