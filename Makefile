# make course    set everything up and run the lessons          (LESSON=04, DATA=reviews.csv, LABELS="1=negative,2=positive", FROM=03)
# make test      set everything up and check everything
# make lab       open the lessons in JupyterLab
# make notebooks run the lessons and publish their outputs and numbers
# make study     the long runs behind the claims, resumable     (LESSON=04)
# make stale     what has changed since each published number was measured
# make bench     throughput against the plain Trainer           (LESSON=02: of the decoder, 05: of search, gpu: on a GPU;
#                embedding, growth, attention; CPU=avx2: as on a processor without bf16 and AVX-512)
# make doctor    what this machine can run, and remedies
# make site      the course as a web page, in build/site
# make badges    the repository's address into badges and links (REPO=owner/name)
# make doors     drive every widget in a browser, check the web page, Colab's first cell and Binder's packages
# make release   the student version of the assignments
# make grade     grade a folder of notebooks                    (SUBMISSIONS=folder, UNSAFE=1: without a sandbox)
PYTHON ?= python3
VENV := .venv
PY := $(VENV)/bin/python
READY := $(VENV)/.ready
SITE_READY := $(VENV)/.site-ready
BENCH_02 := bench_decoder.py
BENCH_05 := bench_retrieval.py
BENCH_gpu := bench_gpu.py
BENCH_attention := bench_attention.py
BENCH_embedding := bench_embedding.py
BENCH_growth := bench_growth.py
CPU_avx2 := ONEDNN_MAX_CPU_ISA=AVX2 ATEN_CPU_CAPABILITY=avx2 MKL_ENABLE_INSTRUCTIONS=AVX2

# What the shell brings along from other Pythons must not reach this one, nor move what pip installs.
unexport PYTHONHOME PYTHONOPTIMIZE PYTHONWARNINGS
PIP := env -u PYTHONPATH -u PIP_TARGET -u PIP_PREFIX -u PIP_ROOT PIP_USER=0 $(PY) -m pip --disable-pip-version-check

# A text as one word of the shell, whatever is in it; a variable's own text, if it was given to make.
quote = '$(subst ','\'',$(1))'
given = $(if $(filter command,$(firstword $(origin $(1)))),$(value $(1)))
option = $(if $(call given,$(2)),$(1) $(call quote,$(call given,$(2))))
LESSON_OPTION = $(if $(LESSON),--lesson $(call quote,$(LESSON))) $(call option,--from,FROM) \
	$(call option,--data,DATA) $(call option,--labels,LABELS) \
	$(if $(filter environment,$(origin DATA)),$(warning DATA is read only behind make: make course LESSON=04 DATA=reviews.csv))

.PHONY: course test lab doctor notebooks study stale bench site badges doors release grade setup
course: setup
	@$(PY) -m lessons_lib course $(LESSON_OPTION)
test: setup
	$(PY) -m ruff check . && $(PY) -m ruff format --check .
	PYTHONPATH= $(PY) -m pytest -n 2
	LESSONS_PROFILE=smoke LESSONS_PRECISION=$(or $(LESSONS_PRECISION),float32) OMP_NUM_THREADS=1 HF_HUB_OFFLINE=1 PYTHONPATH=$(call quote,$(CURDIR)/tests/no_network) \
		$(PY) -m pytest -n 2 --dist loadscope --nbval-lax --nbval-cell-timeout 120 \
		notebooks/*.ipynb notebooks/assignments/source
lab: setup
	@$(PY) -m lessons_lib.course.lab
notebooks: setup
	@$(PY) -m lessons_lib notebooks $(LESSON_OPTION)
study: setup
	@$(PY) -m lessons_lib study $(LESSON_OPTION)
stale: setup
	@$(PY) -m lessons_lib stale
bench: setup
	@$(CPU_$(CPU)) $(PY) benchmarks/$(or $(BENCH_$(LESSON)),bench_training.py)
doctor: setup
	@$(PY) -m lessons_lib doctor
site: $(SITE_READY)
	@$(PY) docs/build.py
badges: setup
	@$(PY) -m lessons_lib badges $(call quote,$(or $(REPO),$(error REPO= is missing: owner/name)))
doors: site
	$(PY) -m pytest -v -o pythonpath="tests tests/e2e" tests/e2e/web_page.py tests/e2e/widgets.py tests/e2e/fresh.py
release: setup
	@$(PY) -m lessons_lib release
grade: setup
	@$(PY) -m lessons_lib grade $(call quote,$(or $(value SUBMISSIONS),$(error SUBMISSIONS= is missing: a folder with one notebook per student))) $(if $(filter 1,$(UNSAFE)),--unsafe)

setup: $(READY)
$(READY): requirements.txt pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(0 if sys.version_info >= (3, 11) else "Python 3.11 or newer is needed, this is " + sys.version.split()[0] + ". Remedy: make PYTHON=/path/to/newer/python")'
	$(PYTHON) -m venv $(VENV)
	@$(PY) -c 'import sys; sys.exit(0 if sys.version_info >= (3, 11) else ".venv holds an older Python. Remedy: rm -rf .venv, then make again")'
	$(PIP) install -r requirements.txt
	$(PIP) install --no-deps -e .
	@$(PY) -I -c 'import importlib.util as i, sys; sys.exit(0 if i.find_spec("torch") and i.find_spec("lessons_lib") else "pip installed the packages outside .venv. Remedy: pip config list shows a target, prefix or root: pip config unset it, then make again")'
	@touch $(READY)
$(SITE_READY): $(READY) docs/requirements.txt
	$(PIP) install -c requirements.txt -r docs/requirements.txt
	@touch $(SITE_READY)
