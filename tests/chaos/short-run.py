#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""The chaos run that belongs to check: the same choices each time, as many kills as fit in less than a minute."""
import os
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
os.execv('/usr/bin/python3', ['/usr/bin/python3', os.path.join(HERE, 'chaos.py'), '--tap', '--kills', '250', '--seconds', '45',
	'--seed', '5', '--levels', 'conmon,network'] + sys.argv[1:])
