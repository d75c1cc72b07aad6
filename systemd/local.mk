# Unit templates (for the system and for users), message catalog, tmpfiles, preset.
systemdcatalogdir = $(prefix)/lib/systemd/catalog
systemdcatalog_DATA = systemd/tandem.catalog
systemdpresetdir = $(prefix)/lib/systemd/system-preset
systemdpreset_DATA = systemd/90-tandem.preset
systemduserunitdir = $(prefix)/lib/systemd/user
tandem_units = systemd/tandem-netns-helper@.service systemd/tandem-container@.service
systemdsystemunit_DATA = $(tandem_units)
systemduserunit_DATA = $(tandem_units)
tmpfilesdir = $(prefix)/lib/tmpfiles.d
pkglibexec_SCRIPTS = systemd/container-unit

EXTRA_DIST += $(systemdcatalog_DATA) $(systemdpreset_DATA) systemd/tandem.tmpfiles.conf \
	systemd/tandem-netns-helper@.service.in systemd/tandem-container@.service.in systemd/container-unit.in
CLEANFILES += $(tandem_units) systemd/container-unit

tandem_subst = sed -e 's|@bindir[@]|$(bindir)|g' -e 's|@pkglibexecdir[@]|$(pkglibexecdir)|g' -e 's|@docdir[@]|$(docdir)|g'

systemd/tandem-netns-helper@.service: $(srcdir)/systemd/tandem-netns-helper@.service.in Makefile
	$(AM_V_GEN)$(MKDIR_P) systemd && $(tandem_subst) $(srcdir)/$@.in >$@.tmp && mv $@.tmp $@
systemd/tandem-container@.service: $(srcdir)/systemd/tandem-container@.service.in Makefile
	$(AM_V_GEN)$(MKDIR_P) systemd && $(tandem_subst) $(srcdir)/$@.in >$@.tmp && mv $@.tmp $@
systemd/container-unit: $(srcdir)/systemd/container-unit.in Makefile
	$(AM_V_GEN)$(MKDIR_P) systemd && $(tandem_subst) $(srcdir)/$@.in >$@.tmp && chmod +x $@.tmp && mv $@.tmp $@

install-data-local: install-tmpfiles
install-tmpfiles:
	$(MKDIR_P) $(DESTDIR)$(tmpfilesdir)
	$(INSTALL_DATA) $(srcdir)/systemd/tandem.tmpfiles.conf $(DESTDIR)$(tmpfilesdir)/tandem.conf
uninstall-local: uninstall-tmpfiles
uninstall-tmpfiles:
	rm -f $(DESTDIR)$(tmpfilesdir)/tandem.conf
.PHONY: install-tmpfiles uninstall-tmpfiles
