SUMMARY = "The image of a gateway on a developer's desk"
DESCRIPTION = "As v2g-edge-image, with root without a password and tools to look at buses and the system. Not for a depot."
HOMEPAGE = "https://v2g-edge.example"
BUGTRACKER = "https://v2g-edge.example/issues"
SECTION = "base"

require v2g-edge-image.inc

# nooelint: oelint.var.badimagefeature - that is what this image is for
IMAGE_FEATURES += "allow-empty-password allow-root-login empty-root-password tools-debug"
IMAGE_INSTALL += "\
    can-utils \
    systemd-analyze \
    tcpdump \
"
# The tools take room: a slot of its own size, so that its disk is not one of the field's.
V2G_EDGE_SLOT_MIB = "1024"

CVE_PRODUCT = "v2g-edge:v2g-edge"
