"""Every number of the virtual patients that is a choice, in one place.

Ranges are wide on purpose (domain randomisation): the one real scan lies well within them, and a network must not learn
the middle of them by heart. Sources: lesion counts and sites, lung cancer (NINMAS 2013-14 series: 18 % solitary, 60 %
multiple, ribs before spine before pelvis); benign spots per view (BS-80K: 3.3 benign boxes per anterior image); scatter
(own Monte Carlo). Values without a source named beside them are our choice; docs/phantom/card.md lists which is which.
"""
