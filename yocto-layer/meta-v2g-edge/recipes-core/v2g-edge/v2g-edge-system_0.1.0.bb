# nooelint: oelint.var.bbclassextend - it is for boxes alone
SUMMARY = "What a gateway box has beside the gateway"
SUMMARY:${PN}-can = "CAN interfaces set up before the gateway starts"
SUMMARY:${PN}-firewall = "Packet filter of a gateway box"
SUMMARY:${PN}-ssh = "SSH by key alone"
DESCRIPTION = "Packet filter, kernel settings, watchdog, log, clock, network, CAN interfaces and SSH of a box that nobody is near."
HOMEPAGE = "https://v2g-edge.example"
BUGTRACKER = "https://v2g-edge.example/issues"
SECTION = "base"
LICENSE = "Apache-2.0"
LIC_FILES_CHKSUM = "file://LICENSE;md5=3b83ef96387f14655fc854ddc3c6bd57"

SRC_URI = "\
    file://LICENSE \
    file://configs/system/networkd \
    file://configs/system/nftables \
    file://configs/system/ssh \
    file://configs/system/sysctl.d \
    file://configs/system/systemd \
"

S = "${UNPACKDIR}"

inherit allarch features_check systemd v2g_edge_tree

REQUIRED_DISTRO_FEATURES = "systemd"

SYSTEMD_PACKAGES = "${PN}-firewall"
SYSTEMD_SERVICE:${PN}-firewall = "v2g-edge-firewall.service"

do_install() {
    local system=${S}/configs/system
    install -D -m 0644 $system/sysctl.d/60-v2g-edge.conf ${D}${nonarch_libdir}/sysctl.d/60-v2g-edge.conf
    for directory in $system/systemd/*.conf.d; do
        install -D -m 0644 $directory/60-v2g-edge.conf ${D}${nonarch_libdir}/systemd/$(basename $directory)/60-v2g-edge.conf
    done
    install -D -m 0644 $system/systemd/emergency.service.d/60-v2g-edge.conf \
        ${D}${systemd_system_unitdir}/emergency.service.d/60-v2g-edge.conf

    install -D -m 0644 $system/networkd/80-can.network ${D}${nonarch_libdir}/systemd/network/80-can.network
    install -D -m 0644 $system/networkd/85-wired.network ${D}${nonarch_libdir}/systemd/network/85-wired.network
    install -D -m 0644 $system/ssh/60-v2g-edge.conf ${D}${sysconfdir}/ssh/sshd_config.d/60-v2g-edge.conf

    install -D -m 0644 $system/nftables/v2g-edge.nft ${D}${sysconfdir}/nftables.conf
    install -D -m 0644 $system/systemd/v2g-edge-firewall.service ${D}${systemd_system_unitdir}/v2g-edge-firewall.service
}

PACKAGE_BEFORE_PN = "${PN}-can ${PN}-firewall ${PN}-ssh"

FILES:${PN} += "\
    ${nonarch_libdir}/sysctl.d \
    ${nonarch_libdir}/systemd \
"
FILES:${PN}-can += "${nonarch_libdir}/systemd/network/80-can.network"
FILES:${PN}-firewall += "\
    ${sysconfdir}/nftables.conf \
    ${systemd_system_unitdir}/v2g-edge-firewall.service \
"
FILES:${PN}-ssh += "${sysconfdir}/ssh/sshd_config.d/60-v2g-edge.conf"

CONFFILES:${PN}-firewall += "${sysconfdir}/nftables.conf"

RDEPENDS:${PN}-firewall = "nftables"

CVE_PRODUCT = "v2g-edge:v2g-edge"
