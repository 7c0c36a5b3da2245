"""How Sphinx renders the course; `make site` stages the sources (build.py)."""

from lessons_lib.course.repo_address import read_address

project = "Fine-tuning language models, measured"
author = "the authors of the course"
html_title = project
language = "en"
extensions = ["myst_nb", "sphinx_copybutton"]
exclude_patterns = ["docs", "lessons_lib", "notebooks/files"]  # files that pages link to
nb_execution_mode = "off"  # the lessons were executed by `make notebooks`
nb_ipywidgets_js = {}  # their scripts would come from the network
myst_heading_anchors = 4
myst_enable_extensions = ["deflist"]
html_theme = "sphinx_book_theme"
html_theme_options = {
    "repository_url": f"https://github.com/{read_address()}",
    "repository_branch": "main",
    "use_repository_button": True,
    "use_issues_button": True,
    "use_download_button": False,  # a lesson's first lines offer both files of its pair
    "home_page_in_toc": True,
    "show_toc_level": 2,
    "navbar_persistent": [],  # the side has a search field
}
html_static_path = ["static"]
html_css_files = ["course.css"]
html_copy_source = False
html_show_sourcelink = False
copybutton_selector = "div.cell_input pre, div.highlight-default pre, div.highlight-none pre"
