SUMMARY = "What a box in the field needs beside the gateway"
DESCRIPTION = "The kernel in its slot, updates, the data partition, and who may log in."
HOMEPAGE = "https://v2g-edge.example"
BUGTRACKER = "https://v2g-edge.example/issues"
SECTION = "base"

PACKAGE_ARCH = "${MACHINE_ARCH}"

inherit packagegroup

# The kernel is updated with its slot, and its device tree, where the boot loader takes it from there.
RDEPENDS:${PN} = "\
    ca-certificates \
    curl \
    kernel-image \
    kernel-modules \
    libubootenv-bin \
    rauc \
    rauc-service \
    tzdata \
    v2g-edge-access \
    v2g-edge-boot \
    v2g-edge-data \
"
RRECOMMENDS:${PN} = "kernel-devicetree"
