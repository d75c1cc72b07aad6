# SPDX-License-Identifier: Apache-2.0
"""Ethernet frames for the guest's link, made and taken apart: ARP, IPv4, UDP, ICMP, DHCP, ICMPv6."""
import socket
import struct
import time

BROADCAST = b'\xff' * 6
GATEWAY_MAC = bytes.fromhex('52550a000202')
ARP, IPV4, IPV6 = 0x0806, 0x0800, 0x86dd


def mac(text):
	return bytes.fromhex(text.replace(':', ''))


def aton(address):
	return socket.inet_pton(socket.AF_INET6 if ':' in address else socket.AF_INET, address)


def checksum(data):
	if len(data) % 2:
		data += b'\0'
	total = sum(struct.unpack('!%dH' % (len(data) // 2), data))
	while total >> 16:
		total = (total & 0xffff) + (total >> 16)
	return ~total & 0xffff


def ether(dst, src, kind, payload):
	return dst + src + struct.pack('!H', kind) + payload


def arp_request(src_mac, src, wanted):
	return ether(BROADCAST, src_mac, ARP, struct.pack('!HHBBH', 1, IPV4, 6, 4, 1) +
		src_mac + aton(src) + bytes(6) + aton(wanted))


def ipv4(src, dst, proto, payload, ttl=64, ident=1, flags=0, options=b''):
	head = struct.pack('!BBHHHBBH', 0x45 + len(options) // 4, 0, 20 + len(options) + len(payload), ident, flags,
		ttl, proto, 0) + aton(src) + aton(dst) + options
	return head[:10] + struct.pack('!H', checksum(head)) + head[12:] + payload


def udp4(src, sport, dst, dport, data):
	length = 8 + len(data)
	head = struct.pack('!HHHH', sport, dport, length, 0)
	pseudo = aton(src) + aton(dst) + struct.pack('!BBH', 0, 17, length)
	return ipv4(src, dst, 17, head[:6] + struct.pack('!H', checksum(pseudo + head + data) or 0xffff) + data)


def echo4(src, dst, ident, seq, data=b'abcdefgh', ttl=64):
	body = struct.pack('!BBHHH', 8, 0, 0, ident, seq) + data
	return ipv4(src, dst, 1, body[:2] + struct.pack('!H', checksum(body)) + body[4:], ttl=ttl)


def icmp6(src, dst, body, hop_limit=255):
	pseudo = aton(src) + aton(dst) + struct.pack('!II', len(body), 58)
	body = body[:2] + struct.pack('!H', checksum(pseudo + body)) + body[4:]
	return struct.pack('!IHBB', 6 << 28, len(body), 58, hop_limit) + aton(src) + aton(dst) + body


def router_solicitation(src_mac, src='fe80::1234'):
	body = struct.pack('!BBHI', 133, 0, 0, 0) + b'\x01\x01' + src_mac
	return ether(bytes.fromhex('333300000002'), src_mac, IPV6, icmp6(src, 'ff02::2', body))


def neighbour_solicitation(src_mac, src, wanted):
	target = aton(wanted)
	group = 'ff02::1:ff%02x:%02x%02x' % tuple(target[13:])
	body = struct.pack('!BBHI', 135, 0, 0, 0) + target + b'\x01\x01' + src_mac
	return ether(b'\x33\x33\xff' + target[13:], src_mac, IPV6, icmp6(src, group, body))


def udp6(src, sport, dst, dport, data):
	length = 8 + len(data)
	head = struct.pack('!HHHH', sport, dport, length, 0)
	pseudo = aton(src) + aton(dst) + struct.pack('!II', length, 17)
	body = head[:6] + struct.pack('!H', checksum(pseudo + head + data) or 0xffff) + data
	return struct.pack('!IHBB', 6 << 28, len(body), 17, 64) + aton(src) + aton(dst) + body


DISCOVER, OFFER, REQUEST, ACK, NAK = 1, 2, 3, 5, 6


def dhcp(src_mac, kind, requested=None, xid=0x1234, src='0.0.0.0', dst='255.255.255.255', options=b''):
	"""A BOOTP request; @kind None leaves the message type out."""
	body = struct.pack('!BBBBIHH', 1, 1, 6, 0, xid, 0, 0x8000) + bytes(16) + src_mac + bytes(10 + 64 + 128)
	body += b'\x63\x82\x53\x63'
	if kind is not None:
		body += bytes([53, 1, kind])
	if requested:
		body += bytes([50, 4]) + aton(requested)
	body += options + b'\xff'
	return ether(BROADCAST, src_mac, IPV4, udp4(src, 68, dst, 67, body.ljust(300, b'\0')))


class Packet:
	"""A frame taken apart as far as the tests look."""

	def __init__(self, frame):
		self.frame = frame
		self.dst, self.src, self.kind = frame[:6], frame[6:12], struct.unpack('!H', frame[12:14])[0]
		self.proto = self.saddr = self.daddr = self.sport = self.dport = None
		self.payload = frame[14:]
		if self.kind == IPV4:
			p = self.payload
			self.proto, self.ttl = p[9], p[8]
			self.saddr, self.daddr = socket.inet_ntoa(p[12:16]), socket.inet_ntoa(p[16:20])
			self.payload = p[(p[0] & 15) * 4:struct.unpack('!H', p[2:4])[0]]
		elif self.kind == IPV6:
			p = self.payload
			self.proto, self.ttl = p[6], p[7]
			self.saddr = socket.inet_ntop(socket.AF_INET6, p[8:24])
			self.daddr = socket.inet_ntop(socket.AF_INET6, p[24:40])
			self.payload = p[40:40 + struct.unpack('!H', p[4:6])[0]]
		if self.proto in (6, 17):
			self.sport, self.dport = struct.unpack('!HH', self.payload[:4])
			if self.proto == 17:
				self.payload = self.payload[8:]


class Lease:
	"""A DHCP answer."""

	def __init__(self, packet):
		b = packet.payload
		self.packet = packet
		self.xid = struct.unpack('!I', b[4:8])[0]
		self.yiaddr, self.siaddr = socket.inet_ntoa(b[16:20]), socket.inet_ntoa(b[20:24])
		self.bootfile = b[108:236].rstrip(b'\0')
		self.options = {}
		at = 240
		while at < len(b) and b[at] != 255:
			if b[at] == 0:
				at += 1
				continue
			self.options[b[at]] = b[at + 2:at + 2 + b[at + 1]]
			at += 2 + b[at + 1]
		self.kind = self.options.get(53, b'\0')[0]


def receive(sock, wanted, seconds=3.0):
	"""The first frame from the helper for which @wanted(packet) is true, or None. Our own frames are passed over."""
	end = time.monotonic() + seconds
	while True:
		left = end - time.monotonic()
		if left <= 0:
			return None
		sock.settimeout(left)
		try:
			frame, where = sock.recvfrom(70000)
		except (TimeoutError, BlockingIOError):
			return None
		if where[2] == 4 or len(frame) < 14:	# PACKET_OUTGOING
			continue
		packet = Packet(frame)
		if wanted(packet):
			return packet


def ask_dhcp(sock, frame, seconds=3.0):
	"""Send @frame, return the answer with its transaction id as a Lease, or None."""
	xid = frame[14 + 28 + 4:14 + 28 + 8]
	sock.send(frame)
	packet = receive(sock, lambda p: p.proto == 17 and p.sport == 67 and p.payload[4:8] == xid, seconds)
	return Lease(packet) if packet else None
