# nooelint: oelint.var.bbclassextend - it is for boxes alone
SUMMARY = "Edge gateway of a V2G depot"
SUMMARY:${PN}-can-bitrate = "Lets the gateway set CAN interfaces up"
SUMMARY:${PN}-kernel-watchdog = "Lets the gateway feed the kernel's watchdog"
SUMMARY:${PN}-serial = "Lets the gateway open serial lines"
SUMMARY:${PN}-tap = "Lets the gateway tap charging sessions"
SUMMARY:${PN}-tpm = "Lets the gateway use a key in the TPM"
DESCRIPTION = "Reads chargers, vehicles and meters over Modbus, CAN and ISO 15118, and delivers every value to an MQTT 5 broker once."
HOMEPAGE = "https://v2g-edge.example"
BUGTRACKER = "https://v2g-edge.example/issues"
SECTION = "net"
LICENSE = "Apache-2.0"
LIC_FILES_CHKSUM = "file://LICENSE;md5=3b83ef96387f14655fc854ddc3c6bd57"

require ${BPN}-crates.inc

# Of the workspace's member hil-tests only what Cargo must see: it is never compiled here.
SRC_URI += "\
    file://Cargo.lock;subdir=${BP} \
    file://Cargo.toml;subdir=${BP} \
    file://LICENSE;subdir=${BP} \
    file://README.md;subdir=${BP} \
    file://configs;subdir=${BP} \
    file://docs;subdir=${BP} \
    file://hal;subdir=${BP} \
    file://hil-tests/Cargo.toml;subdir=${BP} \
    file://hil-tests/src/lib.rs;subdir=${BP} \
    file://src;subdir=${BP} \
"

inherit cargo cargo-update-recipe-crates systemd useradd v2g_edge_tree

# What reads and delivers; without the simulated depot and the broker of the demo.
CARGO_BUILD_FLAGS:append = " --package v2g-edge --no-default-features --features firmware"
# The packages are stripped here, and the symbols kept in -dbg.
export CARGO_PROFILE_RELEASE_STRIP = "none"

USERADD_PACKAGES = "${PN}"
USERADD_PARAM:${PN} = "\
    --system --user-group --no-create-home --home-dir ${localstatedir}/lib/v2g-edge --shell ${base_sbindir}/nologin \
    --comment 'V2G depot gateway' v2g-edge \
"

SYSTEMD_SERVICE:${PN} = "v2g-edge.service v2g-edge-confirm.service"

do_install:append() {
    local system=${S}/configs/system
    install -D -m 0644 $system/systemd/v2g-edge.service ${D}${systemd_system_unitdir}/v2g-edge.service
    install -m 0644 $system/systemd/v2g-edge-confirm.service ${D}${systemd_system_unitdir}/v2g-edge-confirm.service
    install -d ${D}${systemd_system_unitdir}/v2g-edge.service.d
    install -m 0644 $system/systemd/v2g-edge.service.d/*.conf ${D}${systemd_system_unitdir}/v2g-edge.service.d/

    install -D -m 0644 $system/sysusers.d/v2g-edge.conf ${D}${nonarch_libdir}/sysusers.d/v2g-edge.conf
    install -D -m 0644 $system/tmpfiles.d/v2g-edge.conf ${D}${nonarch_libdir}/tmpfiles.d/v2g-edge.conf
    install -D -m 0644 $system/udev/60-v2g-edge.rules ${D}${nonarch_libdir}/udev/rules.d/60-v2g-edge.rules

    # As tmpfiles.d says, for the first start.
    install -d -m 0750 -o root -g v2g-edge ${D}${sysconfdir}/v2g-edge ${D}${sysconfdir}/v2g-edge/tls
    install -d ${D}${sysconfdir}/v2g-edge/devices ${D}${sysconfdir}/v2g-edge/nftables.d
    install -m 0644 ${S}/configs/package/gateway.toml ${D}${sysconfdir}/v2g-edge/gateway.toml
    # The manual of every key, where the configuration and the units say that it is (package v2g-edge-doc).
    install -d ${D}${docdir}/v2g-edge
    install -m 0644 ${S}/configs/gateway.toml ${S}/docs/*.md ${D}${docdir}/v2g-edge/
}

# What a box has beside Modbus TCP, CAN that is up and mirror feeds: each a drop-in of the unit, with its exposure in its comment.
PACKAGE_BEFORE_PN = "${PN}-can-bitrate ${PN}-kernel-watchdog ${PN}-serial ${PN}-tap ${PN}-tpm"

FILES:${PN} += "\
    ${nonarch_libdir}/sysusers.d \
    ${nonarch_libdir}/tmpfiles.d \
    ${nonarch_libdir}/udev/rules.d \
"
FILES:${PN}-can-bitrate += "${systemd_system_unitdir}/v2g-edge.service.d/can-bitrate.conf"
FILES:${PN}-kernel-watchdog += "${systemd_system_unitdir}/v2g-edge.service.d/kernel-watchdog.conf"
FILES:${PN}-serial += "${systemd_system_unitdir}/v2g-edge.service.d/serial.conf"
FILES:${PN}-tap += "${systemd_system_unitdir}/v2g-edge.service.d/tap.conf"
FILES:${PN}-tpm += "${systemd_system_unitdir}/v2g-edge.service.d/tpm.conf"

CONFFILES:${PN} = "${sysconfdir}/v2g-edge/gateway.toml"

RDEPENDS:${PN}-can-bitrate = "${PN}"
RDEPENDS:${PN}-kernel-watchdog = "${PN}"
RDEPENDS:${PN}-serial = "${PN}"
RDEPENDS:${PN}-tap = "${PN}"
RDEPENDS:${PN}-tpm = "${PN}"

CVE_PRODUCT = "v2g-edge:v2g-edge"
